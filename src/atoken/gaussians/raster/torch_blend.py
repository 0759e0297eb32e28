"""Blending sorted splats into pixels, in plain torch: the reference for every faster way, and the way without them."""

from __future__ import annotations

import torch
from torch import Tensor

from .project import ALPHA_MIN, Splats

TILE = 16
"""Side in pixels of the squares that are blended together."""
ALPHA_MAX = 0.999
"""Most that one splat covers of a pixel."""
TRANSMITTANCE_MIN = 1e-4
"""A pixel through which less light than this comes takes no more splats."""


def blend(splats: Splats, height: int, width: int) -> Tensor:
    """Colours over nothing, [H, W, C]: the sum over splats of colour, coverage and what comes through those in front.

    Coverage of a pixel is opacity * exp(-d' conic d / 2) for its centre at d from the mean. Differentiable.
    """
    rows = []
    for top in range(0, height, TILE):
        bottom = min(top + TILE, height)
        tiles = [_blend_tile(splats, top, bottom, left, min(left + TILE, width)) for left in range(0, width, TILE)]
        rows.append(torch.cat(tiles, 1))
    return torch.cat(rows)


def _blend_tile(splats: Splats, top: int, bottom: int, left: int, right: int) -> Tensor:
    """The pixels of one tile, [rows, columns, C]."""
    with torch.no_grad():
        low, high = splats.means - splats.extents, splats.means + splats.extents
        touches = (high[:, 0] > left) & (low[:, 0] < right) & (high[:, 1] > top) & (low[:, 1] < bottom)
        index = torch.nonzero(touches)[:, 0]
    columns = torch.arange(left, right, device=index.device) + 0.5
    rows = torch.arange(top, bottom, device=index.device) + 0.5
    dx = columns[None, None] - splats.means[index, 0, None, None]  # [n, 1, columns]
    dy = rows[None, :, None] - splats.means[index, 1, None, None]  # [n, rows, 1]
    xx, xy, yy = splats.conics[index].T[..., None, None]
    falloff = torch.exp(-(xx * dx * dx + yy * dy * dy) / 2 - xy * dx * dy)  # [n, rows, columns]
    alpha = (splats.opacities[index, None, None] * falloff).clamp_max(ALPHA_MAX)
    alpha = torch.where(alpha >= ALPHA_MIN, alpha, 0)
    through = torch.cumprod(torch.cat([torch.ones_like(alpha[:1]), 1 - alpha]), 0)[:-1]
    weights = torch.where(through >= TRANSMITTANCE_MIN, alpha * through, 0)
    return torch.einsum("nrc,nk->rck", weights, splats.colours[index])
