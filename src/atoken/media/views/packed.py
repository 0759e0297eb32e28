"""Packed 3D: an asset as views, voxels and their patches in one .npz file, as recipes/nano/furniture.py writes it."""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ...core.errors import ReadError, reading
from ...core.regular import open_regular
from ...core.text import shortened
from ...tokens.patch import PATCH
from ..arrays import read_npz
from .cameras import Cameras, hammersley_sphere
from .views import DISTANCE, MOST_PIXELS, Views
from .voxels import Voxels, patches_of, views_to_patches

PACKED_SUFFIX = ".npz"
MOST_SIDE, MOST_VOXELS = 1024, 2**22
"""Voxels along an edge of the cube, and occupied ones, that are read."""


@dataclass(frozen=True)
class PackedAsset:
    """An asset without its geometry, as much of it as a model and its judge look at."""

    modality: ClassVar[str] = "3d"

    name: str
    colour: np.ndarray
    """uint8 [V, H, W, 3], what the patches are cut from, black where there is nothing."""
    held_out: np.ndarray
    """uint8 [V, H, W, 3], pictures from between them."""
    voxels: dict[int, tuple[np.ndarray, np.ndarray]]
    """For R voxels a side their places int [N, 3] = (x, y, z) and patches int [N, 3] = (view, row, column)."""

    @property
    def cameras(self) -> Cameras:
        """Of ``colour``: ``hammersley_sphere(V, distance=2)``."""
        return hammersley_sphere(len(self.colour), size=self.colour.shape[1], distance=DISTANCE)

    @property
    def held_out_cameras(self) -> Cameras:
        """Of ``held_out``: ``hammersley_sphere(V, distance=2, offset=0.5)``."""
        return hammersley_sphere(len(self.held_out), size=self.held_out.shape[1], distance=DISTANCE, offset=0.5)

    def at(self, resolution: int) -> tuple[np.ndarray, np.ndarray]:
        """Places and patches of the voxels. Raises ``ValueError`` where the asset was not packed for ``resolution``."""
        if resolution not in self.voxels:
            known = ", ".join(map(str, self.voxels))
            raise ValueError(f"{self.name} has no {resolution} voxels a side, only {known}")
        return self.voxels[resolution]

    def patches(self, resolution: int) -> Voxels:
        """Its voxels.

        Raises ``ValueError`` where the asset was not packed for ``resolution`` voxels a side.
        """
        places, patch = self.at(resolution)
        coords = torch.from_numpy(np.pad(places.astype(np.int32), ((0, 0), (1, 0))))
        height, width = self.colour.shape[1:3]
        geometry = {
            "modality": "3d",
            "grid": (1, resolution, resolution, resolution),
            "size": (height, width),
            "box": (0, 0, height, width),
        }
        feats = patches_of(torch.from_numpy(self.colour), torch.from_numpy(patch.astype(np.int64)))
        return Voxels(feats, coords, geometry)

    def pictures(self) -> tuple[np.ndarray, Cameras]:
        """All pictures uint8 [V, H, W, 3], those from between last, and their cameras."""
        own, others = self.cameras, self.held_out_cameras
        cameras = Cameras(torch.cat([own.w2c, others.w2c]), torch.cat([own.intrinsics, others.intrinsics]), own.size)
        return np.concatenate([self.colour, self.held_out]), cameras


def read_packed(source: str | os.PathLike[str] | bytes, name: str | None = None) -> PackedAsset:
    """A packed asset from a file or its bytes.

    Raises ``ReadError`` for any other file, and for one whose arrays are larger than those of ``MOST_PIXELS``, or
    ``OSError`` where it cannot be opened.
    """
    name = name or ("packed 3D" if isinstance(source, bytes) else str(source))
    with io.BytesIO(source) if isinstance(source, bytes) else open_regular(source) as file, reading(name):
        with zipfile.ZipFile(file) as archive:
            keys = [key.removesuffix(".npy") for key in archive.namelist()]
            numbers = [key.removeprefix("voxels") for key in keys if key.startswith("voxels")]
            if not all(side.isascii() and side.isdecimal() and 0 < int(side[:5]) <= MOST_SIDE for side in numbers):
                raise ReadError(f"{name} is not packed 3D: {shortened(repr(numbers))} are no voxels a side")
            colour, held_out = (read_npz(archive, key, 3 * MOST_PIXELS, name) for key in ("views", "held_out"))
            voxels = {
                int(side): (
                    read_npz(archive, f"voxels{side}", 3 * MOST_VOXELS, name),
                    read_npz(archive, f"patch{side}", 3 * MOST_VOXELS, name),
                )
                for side in numbers
            }
        asset = PackedAsset(name, colour, held_out, voxels)
        _check(asset)
    return asset


def to_patches(source: Views | PackedAsset, resolution: int) -> Voxels:
    """The voxels of views or of a packed asset."""
    if isinstance(source, PackedAsset):
        return source.patches(resolution)
    return views_to_patches(source, resolution=resolution)


def _check(asset: PackedAsset) -> None:
    shape, pictures = asset.colour.shape, (asset.colour, asset.held_out)
    square = (
        len(shape) == 4 and 0 < shape[1] == shape[2] and shape[1] % PATCH[1] == 0 and shape[3] == 3 and shape[0] > 0
    )
    if not square or asset.held_out.shape[1:] != shape[1:] or any(array.dtype != np.uint8 for array in pictures):
        found = ", ".join(f"{array.dtype} {list(array.shape)}" for array in pictures)
        raise ReadError(f"{asset.name} is not packed 3D: views and held_out must be uint8 [V, H, H, 3], not {found}")
    if not asset.voxels:
        raise ReadError(f"{asset.name} is not packed 3D: it has no voxels")
    for side, (places, patch) in asset.voxels.items():
        ends = (shape[0], shape[1] // PATCH[1], shape[2] // PATCH[2])
        fits = places.shape == patch.shape and places.ndim == 2 and places.shape[1] == 3 and len(places)
        if not fits or places.dtype.kind not in "iu" or patch.dtype.kind not in "iu":
            found = f"{places.dtype} {list(places.shape)} and {patch.dtype} {list(patch.shape)}"
            raise ReadError(f"{asset.name}: voxels{side} and patch{side} must be integers [N, 3], not {found}")
        if places.min() < 0 or places.max() >= side or patch.min() < 0 or (patch.max(0) >= ends).any():
            raise ReadError(f"{asset.name} has voxels{side} or patch{side} outside of its grid or its views")
