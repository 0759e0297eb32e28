"""From the raw files of a shard's sample to patches: what is drawn at random comes from the generator given."""

from __future__ import annotations

import math
import tempfile
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image

from ..config import PATCH
from ..media.image import IMAGE_SUFFIXES, read_image
from ..media.kinds import VIDEO_SUFFIXES
from ..media.packed import PACKED_SUFFIX, read_packed
from ..media.patchify import frames_to_patches, image_to_patches, to_pixels
from ..media.video import open_video
from .assets import asset_sample
from .batch import Sample
from .config import ShardsConfig


def read_sample(raw: dict[str, Any], config: ShardsConfig, budget: int, rng: np.random.Generator) -> Sample:
    """A sample of at most ``budget`` tokens from the files ``raw``, by suffix; ``txt`` is its caption.

    Raises ``ValueError`` that names the sample where no file of it can be read.
    """
    caption = raw["txt"].decode().strip() if "txt" in raw else None
    for suffix, data in raw.items():
        if f".{suffix}" in IMAGE_SUFFIXES:
            return picture_sample(read_image(data), config.resolution, budget, rng, caption)
        if f".{suffix}" in VIDEO_SUFFIXES:
            return clip_sample(data, suffix, config, budget, rng, caption)
        if f".{suffix}" == PACKED_SUFFIX:
            asset = read_packed(data, f"sample {raw['__key__']}")
            return asset_sample(asset, config.voxels, config.views, config.view_size, rng, caption)
    raise ValueError(f"sample {raw['__key__']} has neither a picture nor a video nor voxels")


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


def clip_sample(
    data: bytes, suffix: str, config: ShardsConfig, budget: int, rng: np.random.Generator, caption: str | None
) -> Sample:
    """A clip of a video file's bytes: frames, stride, start and scale drawn at random, cropped to whole patches.

    Only what lies before the clip since the last key frame that can be sought is decoded besides it. A file with fewer
    frames than drawn gives all that it has. Raises ``ValueError`` for a file that cannot be read.
    """
    with tempfile.NamedTemporaryFile(suffix=f".{suffix}") as file:
        file.write(data)
        file.flush()
        video = open_video(file.name)
        stride = int(rng.integers(config.strides[0], config.strides[1] + 1))
        count = int(rng.integers(config.frames[0] // PATCH[0], config.frames[1] // PATCH[0] + 1)) * PATCH[0]
        total = video.facts.frames or sum(1 for _ in video)
        first = int(rng.integers(max(0, total - 1 - (count - 1) * stride) + 1))
        if first and video.facts.fps:  # the frame before it is over
            video = open_video(file.name, start=(first - 0.5) / video.facts.fps)
            first = 0
        chosen = [frame.pixels for frame in islice(video, first, first + count * stride, stride)]
    steps = -(-len(chosen) // PATCH[0])
    scale = draw_scale(chosen[0].shape[0], chosen[0].shape[1], config.resolution, budget, rng, steps)
    height, width = (max(PATCH[1], round(side * scale)) for side in chosen[0].shape[:2])
    rows, columns = height // PATCH[1], width // PATCH[2]
    top, left = (int(rng.integers(side % PATCH[1] + 1)) for side in (height, width))
    box = np.s_[top : top + rows * PATCH[1], left : left + columns * PATCH[2]]
    resized = [np.asarray(Image.fromarray(f).resize((width, height), Image.Resampling.LANCZOS))[box] for f in chosen]
    feats, coords, grid = frames_to_patches(np.stack(resized))
    return Sample("video", feats, coords, grid, caption)
