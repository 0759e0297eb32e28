"""Views of an asset as patches at the voxels of its surface (paper section 3.2 and Fig. 3)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config import PATCH
from .views import Views

RESOLUTION = 64
"""Voxels along an edge of the unit cube, as in the paper."""
CHOICES = ("visible", "nearest")
SLACK = 1.0
"""How many voxel edges behind the seen surface a voxel's centre may lie and still count as visible."""


def views_to_patches(
    views: Views, *, resolution: int = RESOLUTION, choice: str = "visible"
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Patches fp32 [N, 768] in [-1, 1] and coords int32 [N, 4] = (0, x, y, z) of the occupied voxels, and the geometry.

    A voxel is occupied where a seen surface point lies in it. Its patch is the 16 x 16 patch, out of the regular grid
    of patches of one view, in which its centre appears. ``choice`` says which view: "nearest", the one with the least
    camera depth, whatever stands between, as in the released code; or "visible", the one with the least depth among
    those that see the voxel (all, where none does). Raises ``ValueError`` where nothing lies inside the cube.
    """
    if choice not in CHOICES:
        raise ValueError(f"choice is {choice!r}: give one of {', '.join(CHOICES)}")
    points = views.points()
    points = points[(points.abs() <= 0.5 + 1e-4).all(1)]
    if not len(points):
        raise ValueError("the views see nothing inside the cube [-0.5, 0.5]^3")
    cells = ((points + 0.5) * resolution).long().clamp(0, resolution - 1)
    key = torch.unique((cells[:, 0] * resolution + cells[:, 1]) * resolution + cells[:, 2])  # sorted: x, y, z ascending
    voxels = torch.stack([key // resolution**2, key // resolution % resolution, key % resolution], 1)  # [N, 3]
    centres = (voxels + 0.5) / resolution - 0.5
    view, row, column = _view_of(views, centres, resolution, choice)

    height, width = views.cameras.size
    rows, columns = height // PATCH[1], width // PATCH[2]
    blocks = torch.from_numpy(views.colour[:, : rows * PATCH[1], : columns * PATCH[2]])
    grid = blocks.view(len(views.cameras), rows, PATCH[1], columns, PATCH[2], 3).transpose(2, 3)  # [V, R, C, 16, 16, 3]
    feats = grid[view, row // PATCH[1], column // PATCH[2]].flatten(1).float() / 127.5 - 1
    coords = torch.cat([torch.zeros_like(key)[:, None], voxels], 1).to(torch.int32)
    geometry = {
        "modality": "3d",
        "grid": (1, resolution, resolution, resolution),
        "size": (height, width),
        "box": (0, 0, height, width),
        "transform": views.transform,
    }
    return feats, coords, geometry


def _view_of(views: Views, centres: Tensor, resolution: int, choice: str) -> tuple[Tensor, Tensor, Tensor]:
    """The view of each centre [N, 3], and the pixel (row, column) where it appears there: int64 [N] each."""
    height, width = views.cameras.size
    pixels, depth = views.cameras.project(centres)  # [V, N, 2], [V, N]
    column = pixels[..., 0].floor().long()
    row = pixels[..., 1].floor().long()
    inside = (depth > 0) & (row >= 0) & (row < height // 16 * 16) & (column >= 0) & (column < width // 16 * 16)
    row, column = row.clamp(0, height // 16 * 16 - 1), column.clamp(0, width // 16 * 16 - 1)
    cost = torch.where(inside, depth, depth + 1e6)
    if choice == "visible":
        view = torch.arange(len(views.cameras))[:, None].expand_as(row)
        seen = torch.from_numpy(np.ascontiguousarray(views.depth))[view, row, column]
        cost = torch.where(depth <= seen + SLACK / resolution, cost, cost + 1e3)
    best = cost.argmin(0)
    every = torch.arange(len(centres))
    return best, row[best, every], column[best, every]
