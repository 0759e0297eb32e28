"""Clips made from photographs and cut-out stamps: pans, zooms, turns, parallax, stamps that move. By seed, no chance.

They stand under their own name wherever they are used: no real video is replaced by them silently.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

MOVES = ("pan", "zoom", "turn", "parallax")


@dataclass(frozen=True)
class Path2D:
    """A camera that moves smoothly over a plane: centre in pixels, window scale, angle in radians."""

    start: tuple[float, float, float, float]
    end: tuple[float, float, float, float]

    def at(self, progress: float) -> tuple[float, float, float, float]:
        """x, y, scale, angle at ``progress`` 0 ... 1; it eases in and out, and scales grow by equal factors."""
        eased = progress * progress * (3 - 2 * progress)
        x, y, _, angle = (a + (b - a) * eased for a, b in zip(self.start, self.end, strict=True))
        return x, y, self.start[2] * (self.end[2] / self.start[2]) ** eased, angle


@dataclass(frozen=True)
class Sprite:
    """A stamp on its way: uint8 RGBA [h, w, 4], place and size relative to the frame."""

    stamp: Image.Image
    path: Path2D


def synthetic_clip(
    photos: Sequence[np.ndarray],
    stamps: Sequence[np.ndarray],
    *,
    seed: int,
    frames: int = 32,
    size: tuple[int, int] = (128, 128),
    fps: float = 25.0,
) -> Iterator[np.ndarray]:
    """``frames`` frames uint8 [H, W, 3] of ``size`` (height, width): the same for the same seed and pictures.

    One of ``photos`` (uint8 [H, W, 3]) is panned over, zoomed into, turned, or seen behind a nearer copy of another
    one that moves faster (parallax); up to three ``stamps`` (uint8 [h, w, 4], alpha last) move across it. Speed is
    set in sizes a second, so ``fps`` says how far neighbouring frames lie apart. Raises ``ValueError`` without
    photographs or frames.
    """
    if not photos or frames < 1:
        raise ValueError("a synthetic clip needs at least one photograph and one frame")
    rng = np.random.default_rng(seed)
    move = MOVES[int(rng.integers(len(MOVES)))]
    seconds = frames / fps
    back = Image.fromarray(photos[int(rng.integers(len(photos)))])
    camera = _camera(rng, back.size, size, move, seconds)
    nearer = _veil(rng, photos, size) if move == "parallax" else None
    drift = rng.uniform(-0.5, 0.5, 2) * seconds
    sprites = [_sprite(rng, stamps, size, seconds) for _ in range(int(rng.integers(0, 4)) if len(stamps) else 0)]
    for index in range(frames):
        progress = index / max(1, frames - 1)
        picture = _window(back, camera.at(progress), size)
        if nearer is not None:
            offset = tuple(int(d * s * (progress - 0.5)) for d, s in zip(drift, size, strict=True))
            picture.paste(nearer, (offset[1], offset[0]), nearer)
        for sprite in sprites:
            _paste(picture, sprite, progress)
        yield np.array(picture)


def strided(count: int, length: int, rng: np.random.Generator, *, diverse: bool) -> np.ndarray:
    """Frame numbers of a training clip out of ``count`` frames: ``length`` of them at one stride, int64 [length].

    Strides are 1 to 3 (consistency) or, with ``diverse``, 4 to 12 (paper section 3.4), at most what ``count`` allows.
    Raises ``ValueError`` where even neighbouring frames are too few.
    """
    if count < length:
        raise ValueError(f"a clip of {length} frames does not fit into {count}")
    low, high = (4, 12) if diverse else (1, 3)
    widest = (count - 1) // max(1, length - 1)
    stride = int(rng.integers(min(low, widest), min(high, widest) + 1))
    start = int(rng.integers(0, count - stride * (length - 1)))
    return start + stride * np.arange(length)


def _camera(
    rng: np.random.Generator, photo: tuple[int, int], size: tuple[int, int], move: str, seconds: float
) -> Path2D:
    """A way over the photograph that never leaves it; only the named move is large."""
    fit = min(photo[0] / size[1], photo[1] / size[0])  # photograph pixels for a frame pixel, at most
    turning = rng.uniform(-0.6, 0.6) * seconds if move == "turn" else 0.0
    reach = 1.0 if turning == 0 else 1 / (abs(math.cos(turning)) + abs(math.sin(turning)) * max(size) / min(size))
    scale = fit * rng.uniform(0.45, 0.9) * min(1.0, reach)
    factor = float(np.clip(math.exp(rng.uniform(-0.5, 0.5) * seconds), scale and 0.4, 2.5)) if move == "zoom" else 1.0
    scales = (min(scale, fit * reach), min(max(scale * factor, 0.1 * fit), fit * reach))
    most = max(scales) / reach / 2
    room = [max(0.0, side / 2 - most * frame) for side, frame in zip(photo, size[::-1], strict=True)]
    speed = rng.uniform(-0.8, 0.8, 2) * seconds if move in ("pan", "parallax") else np.zeros(2)
    first = [rng.uniform(-r, r) for r in room]
    last = [
        float(np.clip(a + v * s * max(scales), -r, r))
        for a, v, s, r in zip(first, speed, size[::-1], room, strict=True)
    ]
    middle = photo[0] / 2, photo[1] / 2
    return Path2D(
        (middle[0] + first[0], middle[1] + first[1], scales[0], 0.0),
        (middle[0] + last[0], middle[1] + last[1], scales[1], turning),
    )


def _window(photo: Image.Image, view: tuple[float, float, float, float], size: tuple[int, int]) -> Image.Image:
    """What a camera at ``view`` sees, [height, width] of ``size``, antialiased."""
    x, y, scale, angle = view
    height, width = size
    if angle == 0.0:
        half = scale * width / 2, scale * height / 2
        low = max(0.0, x - half[0]), max(0.0, y - half[1])
        high = min(photo.width, x + half[0]), min(photo.height, y + half[1])
        return photo.resize((width, height), Image.Resampling.BICUBIC, (*low, *high))
    shrink = max(1, int(scale))
    if shrink > 1:
        photo = photo.reduce(shrink)
        x, y, scale = x / shrink, y / shrink, scale / shrink
    a, b = scale * math.cos(angle), -scale * math.sin(angle)
    affine = (a, b, x - a * width / 2 - b * height / 2, -b, a, y + b * width / 2 - a * height / 2)
    return photo.transform((width, height), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)


def _veil(rng: np.random.Generator, photos: Sequence[np.ndarray], size: tuple[int, int]) -> Image.Image:
    """A nearer layer: part of a photograph that fades out towards its edges, larger than the frame."""
    height, width = size
    photo = Image.fromarray(photos[int(rng.integers(len(photos)))]).resize((width, height), Image.Resampling.BICUBIC)
    rows, columns = np.mgrid[0:height, 0:width] / np.array([height, width])[:, None, None] - 0.5
    centre = rng.uniform(-0.3, 0.3, 2)
    distance = np.hypot(rows - centre[0], columns - centre[1])
    alpha = np.clip((rng.uniform(0.25, 0.4) - distance) * 12, 0, 1)
    photo.putalpha(Image.fromarray((alpha * 255).astype(np.uint8)))
    return photo


def _sprite(rng: np.random.Generator, stamps: Sequence[np.ndarray], size: tuple[int, int], seconds: float) -> Sprite:
    stamp = Image.fromarray(stamps[int(rng.integers(len(stamps)))], "RGBA")
    height, width = size
    side = rng.uniform(0.2, 0.6) * min(size) / max(stamp.size)
    start = np.array([rng.uniform(0, width), rng.uniform(0, height)])
    end = start + rng.uniform(-0.8, 0.8, 2) * seconds * np.array([width, height])
    growth = math.exp(rng.uniform(-0.3, 0.3) * seconds)
    turning = rng.uniform(-0.8, 0.8) * seconds
    return Sprite(stamp, Path2D((start[0], start[1], side, 0.0), (end[0], end[1], side * growth, turning)))


def _paste(picture: Image.Image, sprite: Sprite, progress: float) -> None:
    x, y, scale, angle = sprite.path.at(progress)
    width, height = (max(1, round(side * scale)) for side in sprite.stamp.size)
    shown = sprite.stamp.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    shown = shown.rotate(math.degrees(angle), Image.Resampling.BICUBIC, expand=True)
    picture.paste(shown, (round(x - shown.width / 2), round(y - shown.height / 2)), shown)
