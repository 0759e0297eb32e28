"""3D for the protocols: an asset as the model sees it, beside the views that its reconstruction is compared on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..media.views.cameras import Cameras, hammersley_sphere
from ..media.views.views import DISTANCE, FOV, SIZE, Views, render_views

if TYPE_CHECKING:
    from ..media.views.packed import PackedAsset

HELD_OUT_VIEWS, OFFSET = 8, 0.5
"""Cameras of the comparison: between those of the encoder's own 16 views, as far away and as wide."""


@dataclass(frozen=True)
class HeldOut:
    """An asset, and what it looks like from cameras that the encoder does not use."""

    views: Views | PackedAsset
    """What is encoded."""
    cameras: Cameras
    pictures: np.ndarray
    """uint8 [V, H, W, 3] on black, of the asset from ``cameras``."""


def held_out_cameras() -> Cameras:
    """The cameras of ``paper-3d``: 8 on a sphere of radius 2, turned by half a step, 40 degrees, 256 x 256."""
    return hammersley_sphere(HELD_OUT_VIEWS, fov=FOV, size=SIZE, distance=DISTANCE, offset=OFFSET)


def read_held_out(path: Path) -> HeldOut:
    """A mesh, point or splat file, or a packed asset. Raises ``ValueError`` for what cannot be read."""
    from ..codec.assets import is_splat_file
    from ..gaussians.types import Gaussians
    from ..gaussians.views import splat_views
    from ..media.mesh import read_asset
    from ..media.views.packed import PACKED_SUFFIX, read_packed

    cameras = held_out_cameras()
    if path.suffix.lower() == PACKED_SUFFIX:
        packed = read_packed(path)
        if packed.held_out.shape[:3] != (len(cameras), *cameras.size):
            raise ValueError(f"{path} has held-out views {list(packed.held_out.shape)}, not 8 of 256 x 256")
        return HeldOut(packed, cameras, packed.held_out)
    if is_splat_file(path):
        splats = Gaussians.load(path)
        return HeldOut(splat_views(splats), cameras, splat_views(splats, cameras).colour)
    asset = read_asset(path)
    return HeldOut(render_views(asset), cameras, render_views(asset, cameras).colour)


def pixels_of(clip: np.ndarray | HeldOut) -> np.ndarray:
    """What is compared, uint8 [F, H, W, 3]: the frames of a clip, the held-out views of an asset."""
    return clip.pictures if isinstance(clip, HeldOut) else clip
