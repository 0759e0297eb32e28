"""Video files as frames: lazily, upright, with exact times, resampled only where asked for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import ReadError
from ...core.regular import open_regular
from ...tokens.checks import check_fps
from ..image.files import DEFAULT_MAX_PIXELS
from . import animation, pyav
from .facts import Damaged, VideoFacts
from .frames import Frame, FrameSource, at_rate, between, resized, target_size


@dataclass(frozen=True)
class Damage:
    """Where a file stopped being readable."""

    frames: int
    """Frames before the damage."""
    lost: int | None
    """Frames that the header counts beyond them, an estimate; None where it does not tell."""
    reason: str

    def __str__(self) -> str:
        lost = "an unknown number of frames lost"
        if self.lost is not None:
            lost = f"by its header {self.lost} of {self.frames + self.lost} frames lost"
        return f"damaged after {self.frames} frames ({self.reason}): {lost}"


class Video(FrameSource):
    """A video file or animation (GIF, WebP, AVIF, PNG) that yields ``Frame`` in order, from the beginning each time.

    Only a few frames are in memory. ``start`` and ``end`` are seconds, end excluded; ``fps`` resamples to a constant
    rate, each tick showing the frame on screen then; ``size`` is the shorter side, or (height, width). ``background``
    lies behind transparent animations.

    Times count from the first frame of the file, also with ``start``. Frames are sRGB-like RGB as the file's matrix
    and range say (untagged: BT.709 from 720 rows on, else BT.601), uint8, turned upright by the file's rotation.
    More than 8 bits are rounded to 8, interlaced frames stay woven, pixels that are not square stay as stored: such
    peculiarities are warnings, and in ``facts.notes``. Sound is not read.

    A damaged file is read up to the damage; then ``ReadError`` says how many frames are lost, or, with
    ``allow_partial``, a warning, and ``damage`` has the numbers. A count or duration in a header is an estimate: a
    file that has other numbers of frames is sound.

    Raises ``FileNotFoundError``; ``ValueError`` for a file that is empty, no video, without a video stream or without
    frames, and where PyAV is missing (animations need Pillow only).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        start: float | None = None,
        end: float | None = None,
        fps: float | None = None,
        size: int | tuple[int, int] | None = None,
        allow_partial: bool = False,
        background: tuple[int, int, int] = (255, 255, 255),
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> None:
        _check(start, end, fps, size)
        self.path = Path(path)
        self.start, self.end, self.fps, self.size = start, end, fps, size
        self.allow_partial, self.background, self.max_pixels = allow_partial, background, max_pixels
        self.damage: Damage | None = None
        with open_regular(self.path) as file:
            self._pillow = animation.is_picture(file.read(16))
        self.facts: VideoFacts = (animation if self._pillow else pyav).probe(self.path, max_pixels)
        height, width = self.frame_size
        if height * width > max_pixels:
            raise ValueError(
                f"size {size} makes frames of {width}x{height}, more than the limit of {max_pixels} pixels"
            )
        for note in self.facts.notes:
            warnings.warn(f"{path} is {note}" if not note.startswith("its") else f"{path}: {note}", stacklevel=2)

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames that are given."""
        stored = self.facts.height, self.facts.width
        return stored if self.size is None else target_size(stored, self.size)

    def __iter__(self) -> Iterator[Frame]:
        frames = self._sound_frames()
        if self.start is not None or self.end is not None:
            frames = between(frames, self.start, self.end)
        if self.fps is not None:
            frames = at_rate(frames, self.fps)
        if self.size is not None:
            frames = resized(frames, self.size)
        empty = True
        for frame in frames:
            empty = False
            yield frame
        if empty:
            end = "its end" if self.end is None else f"{self.end} s"
            raise ReadError(f"{self.path} has no frame between {self.start or 0} s and {end}")

    def _sound_frames(self) -> Iterator[Frame]:
        self.damage = None
        frames = (
            animation.decode(self.path, self.background, self.max_pixels)
            if self._pillow
            else pyav.decode(self.path, self.start, self.max_pixels)
        )
        count = 0
        try:
            for frame in frames:
                yield frame
                count += 1
        except Damaged as found:
            self.damage = Damage(count, found.lost, found.reason)
            if not self.allow_partial or count == 0:
                remedy = "" if count == 0 else "; allow_partial=True (--allow-partial) keeps what is before"
                raise ReadError(f"{self.path} is {self.damage}{remedy}") from found
            warnings.warn(f"{self.path} is {self.damage}", stacklevel=2)


open_video = Video
"""The public name."""


def _check(start: float | None, end: float | None, fps: float | None, size: int | tuple[int, int] | None) -> None:
    if start is not None and not 0 <= start < float("inf"):
        raise ValueError(f"start is {start}: give seconds from the first frame on")
    if end is not None and not (start or 0) < end:
        raise ValueError(f"end is {end}: give seconds after start ({start or 0})")
    if fps is not None:
        check_fps(fps)
    if size is not None and min(size if isinstance(size, tuple) else (size,)) < 1:
        raise ValueError(f"size is {size}: give the shorter side in pixels, or (height, width)")
