"""Views of an asset as patches at the voxels of its surface (paper section 3.2 and Fig. 3)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...tokens.patch import PATCH
from ..mesh.light import NONE
from ..patchify import ONE_FRAME, patchify
from ..pixels import from_uint8
from .views import CHOICES, Views

RESOLUTION = 64
"""Voxels along an edge of the unit cube, as in the paper."""
SLACK = 1.0
"""How many voxel edges behind the seen surface a voxel's centre may lie and still count as visible."""


class Voxels(NamedTuple):
    """What a network sees of an asset."""

    feats: Tensor
    """Patches fp32 [N, 768] in [-1, 1]."""
    coords: Tensor
    """int32 [N, 4] = (0, x, y, z)."""
    geometry: dict[str, Any]
    """Facts of the tokens."""

    @property
    def modality(self) -> str:
        """As sources of ``AToken.encode`` have it."""
        return "3d"


def views_to_patches(views: Views, *, resolution: int = RESOLUTION) -> Voxels:
    """The occupied voxels.

    See ``occupied_voxels``, which raises ``ValueError`` where nothing lies inside the cube.
    """
    voxels, patch = occupied_voxels(views, resolution=resolution)
    coords = torch.cat([voxels.new_zeros(len(voxels), 1), voxels], 1)
    height, width = views.cameras.size
    geometry = {
        "modality": "3d",
        "grid": (1, resolution, resolution, resolution),
        "size": (height, width),
        "box": (0, 0, height, width),
        "transform": views.transform,
        **({} if views.light == NONE else {"light": views.light}),
    }
    return Voxels(patches_of(torch.from_numpy(views.colour), patch), coords, geometry)


def occupied_voxels(views: Views, *, resolution: int = RESOLUTION) -> tuple[Tensor, Tensor]:
    """Occupied voxels int32 [N, 3] = (x, y, z), ascending, and the patch of each, int32 [N, 3] = (view, row, column).

    A voxel is occupied where a seen surface point lies in it. Its patch is the one, out of the regular grid of 16 x 16
    patches of a view, in which its centre appears; ``views.choice`` says which view. Raises ``ValueError`` where
    nothing lies inside the cube.
    """
    if views.choice not in CHOICES:
        raise ValueError(f"choice is {views.choice!r}: give one of {', '.join(CHOICES)}")
    points = views.points()
    points = points[(points.abs() <= 0.5 + 1e-4).all(1)]
    if not len(points):
        raise ValueError("the views see nothing inside the cube [-0.5, 0.5]^3")
    cells = ((points + 0.5) * resolution).long().clamp(0, resolution - 1)
    key = torch.unique((cells[:, 0] * resolution + cells[:, 1]) * resolution + cells[:, 2])  # sorted: x, y, z ascending
    voxels = torch.stack([key // resolution**2, key // resolution % resolution, key % resolution], 1)  # [N, 3]
    view, row, column = _view_of(views, (voxels + 0.5) / resolution - 0.5, resolution)
    return voxels.int(), torch.stack([view, row // PATCH[1], column // PATCH[2]], 1).int()


def patches_of(colour: Tensor, patch: Tensor) -> Tensor:
    """Patches ``patch`` int [N, 3] = (view, row, column) of views uint8 [V, H, W, 3]: fp32 [N, 768] in [-1, 1]."""
    view, row, column = patch.long().unbind(1)
    return from_uint8(patchify(colour, ONE_FRAME)[view, row, column])


def _view_of(views: Views, centres: Tensor, resolution: int) -> tuple[Tensor, Tensor, Tensor]:
    """The view of each centre [N, 3], and the pixel (row, column) where it appears there: int64 [N] each."""
    height, width = views.cameras.size
    pixels, depth = views.cameras.project(centres)  # [V, N, 2], [V, N]
    column = pixels[..., 0].floor().long()
    row = pixels[..., 1].floor().long()
    inside = (depth > 0) & (row >= 0) & (row < height // 16 * 16) & (column >= 0) & (column < width // 16 * 16)
    row, column = row.clamp(0, height // 16 * 16 - 1), column.clamp(0, width // 16 * 16 - 1)
    cost = torch.where(inside, depth, depth + 1e6)
    if views.choice == "visible":
        view = torch.arange(len(views.cameras))[:, None].expand_as(row)
        seen = torch.from_numpy(np.ascontiguousarray(views.depth))[view, row, column]
        cost = torch.where(depth <= seen + SLACK / resolution, cost, cost + 1e3)
    best = cost.argmin(0)
    every = torch.arange(len(centres))
    return best, row[best, every], column[best, every]
