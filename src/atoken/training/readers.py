"""From the raw files of a shard's sample to patches: what is drawn at random comes from the generator given."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..config import PATCH
from ..media.image import IMAGE_SUFFIXES, read_image
from ..media.patchify import image_to_patches, to_pixels
from .batch import Sample
from .config import ShardsConfig

VOXELS = "npz"
"""Suffix of packed 3D: ``patches`` uint8 [N, 768], ``coords`` int [N, 3] = (x, y, z), ``grid`` the voxels a side."""


def read_sample(raw: dict[str, Any], config: ShardsConfig, budget: int, rng: np.random.Generator) -> Sample:
    """A sample of at most ``budget`` tokens from the files ``raw``, by suffix; ``txt`` is its caption.

    Raises ``ValueError`` that names the sample where no file of it can be read.
    """
    caption = raw["txt"].decode().strip() if "txt" in raw else None
    for suffix, data in raw.items():
        if f".{suffix}" in IMAGE_SUFFIXES:
            return picture_sample(read_image(data), config.resolution, budget, rng, caption)
        if suffix == VOXELS:
            return voxel_sample(data, caption)
    raise ValueError(f"sample {raw['__key__']} has neither a picture nor voxels")


def picture_sample(
    picture: np.ndarray, resolution: tuple[int, int], budget: int, rng: np.random.Generator, caption: str | None
) -> Sample:
    """uint8 HWC, scaled down at random within ``resolution``, cropped to whole patches and flipped half of the time."""
    scale = draw_scale(picture.shape[0], picture.shape[1], resolution, budget, rng)
    height, width = (max(PATCH[1], round(side * scale)) for side in picture.shape[:2])
    if (height, width) != picture.shape[:2]:
        picture = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))
    rows, columns = height // PATCH[1], width // PATCH[2]
    top, left = (int(rng.integers(side % PATCH[1] + 1)) for side in (height, width))
    crop = picture[top : top + rows * PATCH[1], left : left + columns * PATCH[2]]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    feats, coords, geometry = image_to_patches(to_pixels(np.ascontiguousarray(crop)))
    return Sample("image", feats, coords, geometry["grid"], caption)


def draw_scale(
    height: int, width: int, resolution: tuple[int, int], budget: int, rng: np.random.Generator, steps: int = 1
) -> float:
    """Scale of a picture or clip of ``steps`` time steps: its shorter side becomes uniform between the lower bound and
    the upper one or its own length, whichever is less. Never above 1, unless a side has less than one patch, and such
    that the tokens fit the budget.
    """
    short = min(height, width)
    low, high = min(resolution[0], short), min(resolution[1], short)
    scale = float(rng.uniform(low, high)) / short
    fitting = math.sqrt(budget / steps * PATCH[1] * PATCH[2] / (height * width))
    return max(min(scale, fitting), PATCH[1] / short)


def voxel_sample(data: bytes, caption: str | None) -> Sample:
    """Packed voxels as ``VOXELS`` says."""
    with np.load(io.BytesIO(data)) as arrays:
        feats = torch.from_numpy(arrays["patches"]).float() / 127.5 - 1
        places = torch.from_numpy(arrays["coords"].astype(np.int32))
        side = int(arrays["grid"])
    coords = torch.cat([places.new_zeros(len(places), 1), places], 1)
    return Sample("3d", feats, coords, (1, side, side, side), caption)
