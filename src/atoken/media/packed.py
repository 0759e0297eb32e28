"""Packed 3D: an asset as views, voxels and their patches in one .npz file, as recipes/nano/furniture.py writes it."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..config import PATCH
from ..render.cameras import Cameras, hammersley_sphere
from .views import DISTANCE, Views
from .voxels import patches_of, views_to_patches

PACKED_SUFFIX = ".npz"


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

    def patches(self, resolution: int) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Patches fp32 [N, 768] in [-1, 1], coords int32 [N, 4] = (0, x, y, z), and the geometry of the tokens.

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
        return patches_of(torch.from_numpy(self.colour), torch.from_numpy(patch.astype(np.int64))), coords, geometry

    def pictures(self) -> tuple[np.ndarray, Cameras]:
        """All pictures uint8 [V, H, W, 3], those from between last, and their cameras."""
        own, others = self.cameras, self.held_out_cameras
        cameras = Cameras(torch.cat([own.w2c, others.w2c]), torch.cat([own.intrinsics, others.intrinsics]), own.size)
        return np.concatenate([self.colour, self.held_out]), cameras


def read_packed(source: str | os.PathLike[str] | bytes, name: str | None = None) -> PackedAsset:
    """A packed asset from a file or its bytes. Raises ``FileNotFoundError``, or ``ValueError`` for any other file."""
    name = name or ("packed 3D" if isinstance(source, bytes) else str(source))
    try:
        with np.load(io.BytesIO(source) if isinstance(source, bytes) else Path(source), allow_pickle=False) as arrays:
            sides = [int(key.removeprefix("voxels")) for key in arrays if key.startswith("voxels")]
            voxels = {side: (arrays[f"voxels{side}"], arrays[f"patch{side}"]) for side in sides}
            asset = PackedAsset(name, arrays["views"], arrays["held_out"], voxels)
    except (ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{name} is not packed 3D ({error})") from None
    _check(asset)
    return asset


def to_patches(source: Views | PackedAsset, resolution: int) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Patches, coords and geometry of views or of a packed asset."""
    if isinstance(source, PackedAsset):
        return source.patches(resolution)
    return views_to_patches(source, resolution=resolution)


def _check(asset: PackedAsset) -> None:
    shape = asset.colour.shape
    square = len(shape) == 4 and shape[1] == shape[2] and shape[1] % PATCH[1] == 0 and shape[3] == 3
    if not square or asset.held_out.shape[1:] != shape[1:] or not asset.voxels:
        raise ValueError(f"{asset.name} is not packed 3D (views of {list(shape)} and {list(asset.held_out.shape)})")
    for side, (places, patch) in asset.voxels.items():
        ends = (shape[0], shape[1] // PATCH[1], shape[2] // PATCH[2])
        if places.shape != patch.shape or places.ndim != 2 or places.shape[1] != 3 or not len(places):
            raise ValueError(f"{asset.name} has voxels{side} {list(places.shape)} and patch{side} {list(patch.shape)}")
        if int(places.max()) >= side or bool((patch.max(0) >= ends).any()):
            raise ValueError(f"{asset.name} has voxels or patches outside its grid of {side} or its views")
