"""From the raw files of a shard's sample to patches: what is drawn at random comes from the generator given."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image

from ..core.errors import ReadError
from ..core.text import decoded, shortened
from ..media.image.files import read_image
from ..media.patchify import frames_to_patches, image_to_patches
from ..media.pixels import to_pixels
from ..media.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from ..media.video.frames import Frame
from ..media.video.source import open_video
from ..media.views.packed import PACKED_SUFFIX, read_packed
from ..tokens.patch import PATCH
from .assets import asset_sample
from .batch import Sample
from .config import ShardsConfig


def read_sample(
    raw: dict[str, Any], config: ShardsConfig, budget: int, rng: np.random.Generator, *, captions: bool = True
) -> Sample:
    """A sample of at most ``budget`` tokens from the files ``raw``, by suffix; ``txt`` is its caption.

    Without ``captions`` there need be none, and none that cannot be read does any harm. Raises ``ReadError`` where no
    file of it can be read, its caption cannot or is missing, or it cannot be made small enough; whatever decoders raise
    passes.
    """
    caption = caption_of(raw, needed=captions)
    sample = None
    for suffix, data in raw.items():
        if f".{suffix}" in IMAGE_SUFFIXES:
            sample = picture_sample(read_image(data), config.resolution, budget, rng, caption)
        elif f".{suffix}" in VIDEO_SUFFIXES:
            sample = clip_sample(data, suffix, config, budget, rng, caption)
        elif f".{suffix}" == PACKED_SUFFIX:
            asset = read_packed(data, f"sample {raw['__key__']}")
            sample = asset_sample(asset, config.voxels, config.views, config.view_size, rng, caption)
        if sample is not None:
            break
    name = f"sample {shortened(raw['__key__'])}"
    if sample is None:
        raise ReadError(f"{name} has neither a picture nor a video nor voxels: mend or remove it")
    if len(sample.coords) > budget:
        raise ReadError(f"{name} has {len(sample.coords)} tokens, and the task's budget is {budget}: raise it")
    return sample


def caption_of(raw: dict[str, Any], *, needed: bool) -> str | None:
    """The text of ``txt``: as ``decoded`` reads it, without space around.

    Raises ``ReadError`` that names the caption's file where a caption is ``needed``; else there is none.
    """
    name = f"{shortened(raw['__key__'])}.txt"
    if "txt" not in raw:
        if needed:
            raise ReadError(f"{name} is missing: a task about text needs a caption with every sample")
        return None
    try:
        return decoded(raw["txt"]).strip()
    except ValueError as error:
        if needed:
            raise ReadError(f"{name} is {error}: save it as UTF-8") from None
        return None


def picture_sample(
    picture: np.ndarray, resolution: tuple[int, int], budget: int, rng: np.random.Generator, caption: str | None
) -> Sample:
    """uint8 HWC, scaled down at random within ``resolution``, cropped to whole patches and flipped half of the time."""
    scale = draw_scale(picture.shape[0], picture.shape[1], resolution, budget, rng)
    height, width = (max(PATCH[1], round(side * scale)) for side in picture.shape[:2])
    if (height, width) != picture.shape[:2]:
        picture = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))
    box = draw_box(height, width, budget, rng)
    crop = picture[box]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    feats, coords, geometry = image_to_patches(to_pixels(np.ascontiguousarray(crop)))
    return Sample("image", feats, coords, geometry["grid"], caption)


def draw_box(height: int, width: int, budget: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """A part of whole patches of a picture, placed at random: all of it but for a rest, and where that has more patches
    than ``budget`` (sizes are rounded, and a patch is the least height), fewer along its longer side."""
    rows, columns = height // PATCH[1], width // PATCH[2]
    if rows > columns:
        rows = min(rows, max(1, budget // columns))
    columns = min(columns, max(1, budget // rows))
    rows = min(rows, budget // columns)
    top, left = (int(rng.integers(side + 1)) for side in (height - rows * PATCH[1], width - columns * PATCH[2]))
    return np.s_[top : top + rows * PATCH[1], left : left + columns * PATCH[2]]


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
    frames than drawn gives all that it has. Raises ``ValueError`` for a file that cannot be read, and where ``budget``
    has no room for one patch of every time step.
    """
    stride = int(rng.integers(config.strides[0], config.strides[1] + 1))
    count = int(rng.integers(config.frames[0] // PATCH[0], config.frames[1] // PATCH[0] + 1)) * PATCH[0]
    with tempfile.NamedTemporaryFile(suffix=f".{suffix}") as file:
        file.write(data)
        file.flush()
        chosen = _draw_frames(file.name, count, stride, rng)
    steps = -(-len(chosen) // PATCH[0])
    if budget < steps:
        raise ReadError(f"a clip of {len(chosen)} frames has more time steps than the task's budget of {budget} tokens")
    scale = draw_scale(chosen[0].shape[0], chosen[0].shape[1], config.resolution, budget, rng, steps)
    height, width = (max(PATCH[1], round(side * scale)) for side in chosen[0].shape[:2])
    box = draw_box(height, width, budget // steps, rng)
    resized = [np.asarray(Image.fromarray(f).resize((width, height), Image.Resampling.LANCZOS))[box] for f in chosen]
    feats, coords, grid = frames_to_patches(np.stack(resized))
    return Sample("video", feats, coords, grid, caption)


def _draw_frames(path: str, count: int, stride: int, rng: np.random.Generator) -> list[np.ndarray]:
    """``count`` frames, ``stride`` apart, from anywhere in a video; what it has where it is shorter.

    The count of frames in its header is a hint: where there turn out to be fewer, they are counted and the start is
    drawn anew. Raises ``ValueError`` for a file without frames or that cannot be read.
    """
    video = open_video(path)
    fps, hinted = video.facts.fps, video.facts.frames
    if hinted and fps:
        first = _draw_first(hinted, count, stride, rng)
        if not first:
            if chosen := _cut(video, 0, count, stride):
                return chosen
        else:
            with suppress(ValueError):  # nothing there, or damaged: so says what is counted below
                # half a frame early: the frame before it is over
                chosen = _cut(open_video(path, start=(first - 0.5) / fps), 0, count, stride)
                if len(chosen) == count:
                    return chosen
    total = sum(1 for _ in open_video(path))
    chosen = _cut(open_video(path), _draw_first(total, count, stride, rng), count, stride)
    if not chosen:
        raise ReadError("a video without frames: mend or remove it")
    return chosen


def _draw_first(total: int, count: int, stride: int, rng: np.random.Generator) -> int:
    """Where a clip begins."""
    return int(rng.integers(max(0, total - 1 - (count - 1) * stride) + 1))


def _cut(video: Iterable[Frame], first: int, count: int, stride: int) -> list[np.ndarray]:
    return [frame.pixels for frame in islice(video, first, first + count * stride, stride)]
