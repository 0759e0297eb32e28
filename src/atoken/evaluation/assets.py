"""3D for the protocols: an asset as the model sees it, beside the views that its reconstruction is compared on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..media.views.cameras import Cameras, hammersley_sphere
from ..media.views.views import DISTANCE, FOV, SIZE, Views

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
    from ..codec.assets import read_solid, views_of
    from ..media.views.packed import PackedAsset

    cameras, solid = held_out_cameras(), read_solid(path)
    if isinstance(solid, PackedAsset):
        if solid.held_out.shape[:3] != (len(cameras), *cameras.size):
            raise ValueError(f"{path} has held-out views {list(solid.held_out.shape)}, not 8 of 256 x 256")
        return HeldOut(solid, cameras, solid.held_out)
    return HeldOut(views_of(solid, name=str(path)), cameras, views_of(solid, cameras).colour)


def pixels_of(clip: np.ndarray | HeldOut) -> np.ndarray:
    """What is compared, uint8 [F, H, W, 3]: the frames of a clip, the held-out views of an asset."""
    return clip.pictures if isinstance(clip, HeldOut) else clip
