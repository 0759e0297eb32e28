"""Rotary positions over the four axes t, x, y, z."""

from __future__ import annotations

import torch
from torch import Tensor

BASE = 10000.0


def rope_table(positions: Tensor, head_dim: int) -> Tensor:
    """Rotations of every token: complex64 [N, 1, D/2] from integer positions [N, 4] in the order t, x, y, z.

    Each axis has D/8 frequencies ``BASE ** (-k / D)``. The exponent is over the *full* head dimension, so they span
    only 1.0 to 0.36 radians a step for D = 72: what the released checkpoints were trained with.
    """
    k = torch.arange(head_dim // 8, device=positions.device, dtype=torch.float32)
    frequencies = BASE ** (-k / head_dim)  # [D/8]
    angles = (positions.float()[:, :, None] * frequencies).flatten(1)  # [N, 4, D/8] -> [N, D/2]
    return torch.polar(torch.ones_like(angles), angles)[:, None]


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate the adjacent pairs (2j, 2j+1) of x [N, H, D] by ``table`` [N, 1, D/2]: fp32 [N, H, D]."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))  # [N, H, D/2]
    return torch.view_as_real(pairs * table).flatten(-2)
