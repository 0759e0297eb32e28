"""Gaussian splats as a source: views of them, rendered as those of a mesh are."""

from __future__ import annotations

import numpy as np
import torch

from ..render.cameras import Cameras
from ..render.gaussians import Gaussians
from ..render.rasterize import render
from .views import DEFAULT, Views

SOLID = 0.5
"""Coverage from which a pixel counts as surface."""
FAINT = 0.05
"""Gaussians of less opacity do not count for the size of the whole."""


@torch.no_grad()
def splat_views(gaussians: Gaussians, cameras: Cameras | None = None) -> Views:
    """Colour and depth of Gaussians, centred and scaled so that the longest side is 1; by default as ``render_views``.

    Raises ``ValueError`` where no Gaussian is visible or all lie in one point.
    """
    cameras = cameras or DEFAULT.cameras()
    seen = gaussians.means[gaussians.opacities >= FAINT]
    if not len(seen):
        raise ValueError(f"none of the {len(gaussians)} Gaussians is visible")
    low, high = seen.amin(0).double(), seen.amax(0).double()
    side = float((high - low).max())
    if side == 0:
        raise ValueError("all visible Gaussians lie in one point")
    out = torch.eye(4, dtype=torch.float64)
    out[:3, :3], out[:3, 3] = out[:3, :3] * side, (low + high) / 2
    pictures = render(gaussians.transformed(torch.linalg.inv(out)), cameras)
    solid = pictures.alpha[:, 0] >= SOLID
    rgb = torch.where(solid[:, None], pictures.rgb / pictures.alpha.clamp_min(SOLID), 0)
    colour = (rgb.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    depth = torch.where(solid, pictures.depth[:, 0], torch.inf).numpy().astype(np.float32)
    return Views(cameras, colour.numpy(), depth, tuple(tuple(row) for row in out.tolist()))
