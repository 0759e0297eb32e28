"""Finite scalar quantization (arXiv 2309.15505): groups of bounded, rounded numbers, one index per group.

Always fp32: bf16 cannot tell neighbouring levels apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

EPS = 1e-3


def check_indices(indices: Tensor, sizes: Sequence[int], starts: Sequence[int] | None = None) -> None:
    """Raise ``ValueError`` unless int64 ``indices`` [..., G] lie in codebooks of ``sizes``, which begin at ``starts``.

    The sentence names the first that does not.
    """
    if indices.ndim == 0 or indices.shape[-1] != len(sizes):
        raise ValueError(f"a token has {len(sizes)} codes, and these are {list(indices.shape)}")
    first = indices.new_tensor(starts or [0] * len(sizes))
    wrong = (indices < first) | (indices >= first + indices.new_tensor(sizes))
    if bool(wrong.any()):
        place = wrong.nonzero()[0].tolist()
        least = int(first[place[-1]])
        raise ValueError(
            f"code {int(indices[tuple(place)])} lies outside of {least} ... {least + sizes[place[-1]] - 1}, codebook "
            f"{place[-1]} of 0 ... {len(sizes) - 1}"
        )


class FSQ:
    """Quantizer of [..., C] numbers; it has no parameters.

    ``groups`` gives the levels of every number, one tuple for the numbers that share an index: eight times
    (4, 4, 4, 4, 4, 4) in the released models.
    """

    def __init__(self, groups: Sequence[Sequence[int]]) -> None:
        self.sizes = [len(group) for group in groups]
        """Numbers in each group."""
        self.codebook_sizes = [math.prod(group) for group in groups]
        """Indices that each group can take."""
        levels = [level for group in groups for level in group]
        weights = [math.prod(group[:i]) for group in groups for i in range(len(group))]
        self._half, self._levels, self._weights = (
            torch.tensor(numbers, device="cpu") for numbers in ([level // 2 for level in levels], levels, weights)
        )
        self._bound = (self._levels - 1) * (1 + EPS) / 2  # fp32 [C]
        self._offset = torch.where(self._levels % 2 == 0, 0.5, 0.0)
        self._there: dict[torch.device, tuple[Tensor, Tensor, Tensor, Tensor]] = {}

    def __call__(self, z: Tensor) -> Tensor:
        """Latents [..., C] of any float dtype -> codes fp32 [..., C] in [-1, 1], gradients straight through."""
        bound, offset, half, top = self._on(z.device)
        bounded = torch.tanh(z.float() + torch.atanh(offset / bound)) * bound - offset
        rounded = bounded.round().clamp(-half, top)  # from 1,002 levels on the bound lies beyond the last one
        return (rounded.detach() + (bounded - bounded.detach())) / half  # exact value, straight-through gradient

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Bound, offset, half and the last of the levels there, copied once."""
        there = self._there.get(device)  # two threads may make equal copies, of which either is right
        if there is None:
            with torch.inference_mode(False):  # a later pass may want gradients
                half, top = self._half.to(device), (self._levels - 1 - self._half).to(device)
                there = self._there[device] = self._bound.to(device), self._offset.to(device), half, top
        return there

    def codes_to_indices(self, codes: Tensor) -> Tensor:
        """Codes [..., C] -> int64 indices [..., G], the first number of a group least significant."""
        half = self._half.to(codes.device)
        digits = (codes.float() * half + half).round().long() * self._weights.to(codes.device)
        return torch.stack([group.sum(-1) for group in digits.split(self.sizes, -1)], -1)

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Integer indices [..., G] -> codes fp32 [..., C]: the exact inverse of ``codes_to_indices``.

        Raises ``ValueError`` for an index outside its group's codebook or another number of groups.
        """
        indices = indices.long()
        check_indices(indices, self.codebook_sizes)
        repeats = torch.tensor(self.sizes, device=indices.device)
        half, levels, weights = (x.to(indices.device) for x in (self._half, self._levels, self._weights))
        digits = indices.repeat_interleave(repeats, -1) // weights % levels
        return (digits - half).float() / half
