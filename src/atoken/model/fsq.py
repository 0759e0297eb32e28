"""Finite scalar quantization (arXiv 2309.15505): groups of bounded, rounded numbers, one index per group.

Always fp32: bf16 cannot tell neighbouring levels apart.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

EPS = 1e-3


class FSQ:
    """Quantizer of [..., C] numbers in groups of ``group``, ``levels`` values each; it has no parameters."""

    def __init__(self, levels: int, group: int) -> None:
        self.levels, self.group = levels, group
        self.codebook_size = levels**group

    def __call__(self, z: Tensor) -> Tensor:
        """Latents [..., C] of any float dtype -> codes fp32 [..., C] in [-1, 1], gradients straight through."""
        half = (self.levels - 1) * (1 + EPS) / 2
        offset = 0.5 if self.levels % 2 == 0 else 0.0
        bounded = torch.tanh(z.float() + math.atanh(offset / half)) * half - offset
        rounded = bounded.round().detach() + (bounded - bounded.detach())  # exact value, straight-through gradient
        return rounded / (self.levels // 2)

    def codes_to_indices(self, codes: Tensor) -> Tensor:
        """Codes [..., C] -> int64 indices [..., C / group], the first number of a group least significant."""
        half = self.levels // 2
        digits = (codes.float() * half + half).round().long().unflatten(-1, (-1, self.group))
        return (digits * self._weights(codes.device)).sum(-1)

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Integer indices [..., G] -> codes fp32 [..., G * group]: the exact inverse of ``codes_to_indices``.

        Raises ``ValueError`` for an index outside 0 ... levels ** group - 1.
        """
        indices = indices.long()
        if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < self.codebook_size:
            raise ValueError(f"codes must lie in 0 ... {self.codebook_size - 1}")
        digits = indices[..., None] // self._weights(indices.device) % self.levels
        half = self.levels // 2
        return ((digits - half).float() / half).flatten(-2)

    def _weights(self, device: torch.device) -> Tensor:
        return torch.tensor([self.levels**i for i in range(self.group)], device=device)
