"""Gaussian splats as a source: views of them, rendered as those of a mesh are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ..media.views.cameras import Cameras
from ..media.views.extent import NEAR, ROBUST, Extent, cube_of
from ..media.views.views import DEFAULT, Views
from .raster.rasterize import render
from .types import TENSORS, Gaussians

SOLID = 0.5
"""Coverage from which a pixel counts as surface."""
FAINT = 0.05
"""Gaussians of less opacity do not count for the size of the whole."""


@torch.no_grad()
def splat_views(
    gaussians: Gaussians, cameras: Cameras | None = None, extent: Extent = ROBUST, name: object = "the splat"
) -> Views:
    """Colour and depth of Gaussians, centred and scaled so that the longest side is 1; by default as ``render_views``.

    ``extent`` says which side (see ``ViewOptions``). Raises ``ValueError`` where no Gaussian is visible or all lie in
    one point.
    """
    cameras = cameras or DEFAULT.cameras()
    solid = gaussians.opacities >= FAINT
    if not bool(solid.any()):
        raise ValueError(f"{name}: none of the {len(gaussians)} Gaussians is visible")
    means, opacities = (tensor[solid].cpu().numpy() for tensor in (gaussians.means, gaussians.opacities))
    centre, side = cube_of(means, opacities, extent, name, "Gaussians")
    if side == 0:
        raise ValueError(f"{name}: all visible Gaussians lie in one point, so there is no size to scale by")
    out = torch.eye(4, dtype=torch.float64)
    out[:3, :3], out[:3, 3] = out[:3, :3] * side, torch.from_numpy(centre)
    placed = gaussians.transformed(torch.linalg.inv(out))
    near = (placed.means.abs() <= NEAR / 2).all(1)  # what is left outside would only stand in the way
    if not bool(near.any()):
        raise ValueError(f"{name}: no Gaussian lies in the cube of side {side:.4g}: give a larger extent")
    placed = replace(placed, **{name: getattr(placed, name)[near] for name in TENSORS})
    pictures = render(placed, cameras)
    covered = pictures.alpha[:, 0] >= SOLID
    if not bool(covered.any()):
        raise ValueError(f"{name}: all of it is transparent, no view has a pixel that is half covered")
    rgb = torch.where(covered[:, None], pictures.rgb / pictures.alpha.clamp_min(SOLID), 0)
    colour = (rgb.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    depth = torch.where(covered, pictures.depth[:, 0], torch.inf).numpy().astype(np.float32)
    return Views(cameras, colour.numpy(), depth, tuple(tuple(row) for row in out.tolist()))
