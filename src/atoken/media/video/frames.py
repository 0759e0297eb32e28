"""Moving pictures as frames with their times: what the readers give, arrays as clips, and resampling on request.

A video source is anything that yields ``Frame``; it may be read more than once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from math import isfinite
from typing import NamedTuple

import numpy as np
from PIL import Image

from ...tokens.checks import check_fps


class Frame(NamedTuple):
    """One picture of a video."""

    time: float
    """When it appears, in seconds."""
    pixels: np.ndarray
    """uint8 [H, W, 3], RGB."""
    duration: float = 0.0
    """How long it stays, in seconds; 0 where nothing tells."""


class FrameSource(ABC):
    """A video that is read from its start, frame after frame, all of one size, times ascending."""

    modality = "video"

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]: ...


class Clip(FrameSource):
    """Frames in memory, or made one by one, with their times.

    ``frames`` is uint8 [T, H, W, 3], or an iterable of uint8 [H, W, 3] (a list may be read often, a generator once).
    Exactly one of ``fps`` (frames a second, positive) and ``times`` (seconds, ascending) says when they are shown.
    Raises ``ValueError`` for anything else.
    """

    def __init__(
        self,
        frames: np.ndarray | Iterable[np.ndarray],
        *,
        fps: float | None = None,
        times: Sequence[float] | None = None,
    ) -> None:
        if (fps is None) == (times is None):
            raise ValueError("a clip needs the times of its frames: pass fps= or times=")
        if fps is not None:
            check_fps(fps)
        if isinstance(frames, np.ndarray) and (frames.ndim != 4 or frames.shape[-1] != 3 or frames.size == 0):
            raise ValueError(f"a clip of shape {list(frames.shape)} is not uint8 [T, H, W, 3]")
        if times is not None and not (all(b > a for a, b in pairwise(times)) and all(map(isfinite, times))):
            raise ValueError("the times of a clip must ascend, and be finite")
        self.frames, self.fps, self.times = frames, fps, times

    def __iter__(self) -> Iterator[Frame]:
        times = None if self.times is None else iter(self.times)
        for index, pixels in enumerate(self.frames):
            if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[2:] != (3,):
                found = f"{pixels.dtype} {list(pixels.shape)}" if hasattr(pixels, "dtype") else type(pixels).__name__
                raise ValueError(f"frame {index} of the clip is {found}, not uint8 [H, W, 3]")
            if self.fps is not None:
                yield Frame(index / self.fps, pixels, 1 / self.fps)
            elif times is not None:
                time = next(times, None)
                if time is None:
                    raise ValueError(f"the clip has more frames than its {index} times")
                yield Frame(time, pixels)
        if times is not None and next(times, None) is not None:
            raise ValueError("the clip has fewer frames than times")


def between(frames: Iterable[Frame], start: float | None, end: float | None) -> Iterator[Frame]:
    """The frames that appear at ``start`` or later and before ``end``, in seconds; the last one stays until then."""
    for frame in frames:
        if end is not None and frame.time >= end:
            return
        if start is None or frame.time >= start:
            yield frame if end is None else frame._replace(duration=min(frame.duration, end - frame.time))


def at_rate(frames: Iterable[Frame], fps: float) -> Iterator[Frame]:
    """``fps`` frames a second from the first frame on: at each tick the frame that is on screen then.

    A frame is shown as often as ticks fall on it, or not at all. The last one is on screen for its duration, or
    for one tick where that is not known.
    """
    step, count, start, held = 1 / fps, 0, 0.0, None
    for frame in frames:
        if held is None:
            start = frame.time
        while held is not None and start + count * step < frame.time - 1e-9:
            yield Frame(start + count * step, held.pixels, step)
            count += 1
        held = frame
    if held is None:
        return
    until = held.time + (held.duration or step)
    while count == 0 or start + count * step < until - 1e-9:
        yield Frame(start + count * step, held.pixels, step)
        count += 1


def resized(frames: Iterable[Frame], size: int | tuple[int, int]) -> Iterator[Frame]:
    """Frames of another size, resampled with Pillow's bicubic filter (antialiased where it shrinks).

    ``size`` is the shorter side, the other one keeping the aspect, or (height, width).
    """
    for frame in frames:
        height, width = target_size(frame.pixels.shape[:2], size)
        image = Image.fromarray(frame.pixels)
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        yield frame._replace(pixels=np.array(image))


def target_size(old: Sequence[int], size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width after ``resized``; the longer side becomes even, which players' 4:2:0 colours need."""
    if not isinstance(size, int):
        return size
    height, width = old
    longer = max(size, 2 * round(max(old) * size / min(old) / 2))
    return (size, longer) if height <= width else (longer, size)


def tiles(frames: Iterable[Frame], length: int) -> Iterator[list[Frame]]:
    """Neighbouring frames in lists of ``length``, the last one shorter where they run out.

    Raises ``ValueError`` where a frame has another size than the first, or does not come after the one before.
    """
    tile: list[Frame] = []
    shape, time = None, -float("inf")
    for index, frame in enumerate(frames):
        if shape not in (None, frame.pixels.shape):
            (h, w), (height, width) = shape[:2], frame.pixels.shape[:2]
            raise ValueError(f"frame {index} is {width}x{height}, the ones before are {w}x{h}: cut the video there")
        if not frame.time > time:
            raise ValueError(f"frame {index} is shown at {frame.time} s, not after the one before ({time} s)")
        shape, time = frame.pixels.shape, frame.time
        tile.append(frame)
        if len(tile) == length:
            yield tile
            tile = []
    if tile:
        yield tile
