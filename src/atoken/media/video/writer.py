"""Frames with their times into a video file, one by one and all or nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.files import atomic_write
from ...core.text import shortened
from .frames import Frame
from .pyav import require_av
from .soundtrack import Soundtrack

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

VIDEO_FORMATS = ("mp4", "mov", "mkv", "webm", "gif")
"""Suffixes, without the dot, of the files that ``VideoWriter`` writes."""

TICKS = 5_760_000
"""Ticks a second of written times: a multiple of 12800, 15360, 24000, 30000, 60000, 90000 and of milliseconds, so
that the times of ordinary videos are exact. Matroska and WebM keep milliseconds, GIF hundredths."""

_BT709 = 1
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""Error numbers that FFmpeg passes on from the system and does not use for failures of its own."""


class VideoWriter:
    """Writes ``Frame`` after ``Frame`` to ``path``; at the end of a ``with`` block without an error the file is there.

    By the suffix: .mp4, .mov and .mkv hold H.264, .webm VP9, .gif a palette of 256 colours for each frame. Colours are
    4:2:0 and BT.709, H.264 with an odd side 4:4:4; ``lossless`` keeps RGB exactly (H.264 with RGB or VP9; few
    players outside FFmpeg show the former). Times are written relative to the first frame. ``soundtrack`` is copied
    beside the frames, from the time of the first one on. Raises ``ValueError`` for another suffix, for frames of
    different sizes, and for GIF where ``lossless`` is wanted; ``OSError`` where the file cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fps: float | None = None,
        lossless: bool = False,
        quality: int = 18,
        soundtrack: Soundtrack | None = None,
    ) -> None:
        self.path, self.soundtrack = Path(path), soundtrack
        self.format = self.path.suffix.lower().removeprefix(".")
        if self.format not in VIDEO_FORMATS:
            raise ValueError(f"{path} has no suffix of a writable video: use one of .{', .'.join(VIDEO_FORMATS)}")
        if lossless and self.format == "gif":
            raise ValueError(f"{path}: a GIF has 256 colours a frame and cannot be lossless: use .mkv")
        if soundtrack and self.format == "gif":
            raise ValueError(f"{path}: a GIF has no sound: use .mp4 or .mkv")
        self.av = require_av()
        self.fps, self.lossless, self.quality = fps, lossless, quality
        self.size: tuple[int, int] | None = None
        self._stack = ExitStack()

    def __enter__(self) -> VideoWriter:
        absolute = os.path.abspath(self.path)  # FFmpeg takes what is before a colon for a protocol
        self._temporary = self._stack.enter_context(atomic_write(absolute))
        return self

    def write(self, frame: Frame) -> None:
        """Add a frame, which must come after the one before and have its size."""
        if self.size is None:
            self._begin(frame)
        elif frame.pixels.shape[:2] != self.size:
            raise ValueError(f"{self.path}: a frame of {frame.pixels.shape[:2]} among frames of {self.size}")
        if self._held is not None:
            self._encode(self._held, frame.time - self._held.time)
        self._held = frame

    def write_all(self, frames: Iterable[Frame]) -> None:
        """Add frames."""
        for frame in frames:
            self.write(frame)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:  # whatever fails here, or has failed, reaches atomic_write
            try:
                try:
                    if error is not None:
                        raise error
                    self._finish()
                finally:
                    self._close()
            except self.av.FFmpegError as failure:
                if failure.errno in _OF_THE_DISK:
                    raise OSError(failure.errno, failure.strerror, str(self.path)) from failure
                reason = f"FFmpeg cannot write this ({shortened(failure.strerror or failure)})"
                raise ValueError(f"{self.path}: {reason}: try another format, such as .mkv or .webm") from failure

    def _begin(self, frame: Frame) -> None:
        height, width = self.size = frame.pixels.shape[:2]
        self._first, self._held, self._last_step = frame.time, None, 0.0
        self._container = self._stack_file()
        codec, self._pixel_format, options = self._codec(height, width)
        rate = Fraction(self.fps or 25).limit_denominator(1001)
        self._stream = self._container.add_stream(codec, rate=rate, options=options)
        context = self._stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, self._pixel_format
        context.time_base = Fraction(1, 100 if self.format == "gif" else 1000 if self.format == "webm" else TICKS)
        if self._pixel_format.startswith("yuv"):
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = 1  # limited
        self._sound = self.soundtrack.attach(self._container, frame.time) if self.soundtrack else None
        self._palette = _PaletteGraph(width, height) if self.format == "gif" else None

    _held: Frame | None = None
    _container: Any = None
    _sound: Any = None
    _last_pts = -1

    def _stack_file(self) -> Any:
        names = {"mkv": "matroska"}
        options = {"fflags": "+bitexact"}  # no random identifiers: the same frames are the same bytes
        if self.format in ("mp4", "mov"):
            options["movflags"] = "faststart"
        name = names.get(self.format, self.format)
        return self.av.open(str(self._temporary), "w", format=name, container_options=options)

    def _codec(self, height: int, width: int) -> tuple[str, str, dict[str, str]]:
        """Encoder, pixel format and options."""
        if self.format == "gif":
            return "gif", "pal8", {}
        if self.format == "webm":
            exact = {"lossless": "1"} if self.lossless else {"crf": str(self.quality + 7), "b": "0"}
            return "libvpx-vp9", "gbrp" if self.lossless else "yuv420p", {**exact, "row-mt": "1", "cpu-used": "4"}
        if self.lossless:
            return "libx264rgb", "rgb24", {"qp": "0", "preset": "veryfast"}
        pixel_format = "yuv444p" if height % 2 or width % 2 else "yuv420p"
        # x264's macroblock tree reads memory that it never wrote, so that the same frames give other bytes
        return "libx264", pixel_format, {"crf": str(self.quality), "preset": "veryfast", "mbtree": "0"}

    def _encode(self, frame: Frame, step: float) -> None:
        """One frame that stays for ``step`` seconds."""
        self._last_step = step
        unit = self._stream.codec_context.time_base
        time = frame.time - self._first
        if self._sound is not None:
            self._sound.copy_until(time)
        picture = self.av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.pixels), "rgb24")
        picture = self._palette(picture) if self._palette else self._converted(picture)
        picture.pts, picture.time_base = round(Fraction(time) / unit), unit
        picture.duration = round(Fraction(step) / unit)
        if picture.pts <= self._last_pts:
            raise ValueError(
                f"{self.path}: two frames within {float(unit):.2g} s, which .{self.format} does not tell apart: "
                "take fewer a second (--fps), or write .mp4"
            )
        self._last_pts = picture.pts
        self._container.mux(self._stream.encode(picture))

    def _converted(self, picture: VideoFrame) -> VideoFrame:
        from av.video.reformatter import Interpolation

        if not self._pixel_format.startswith("yuv"):
            return picture.reformat(format=self._pixel_format)
        exact = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP
        return picture.reformat(
            format=self._pixel_format, dst_colorspace=_BT709, dst_color_range=1, interpolation=int(exact), threads=1
        )

    def _finish(self) -> None:
        if self._held is None:
            raise ValueError(f"{self.path}: there is no frame to write")
        step = self._held.duration or self._last_step or 1 / (self.fps or 25)
        self._encode(self._held, step)
        if self._sound is not None:
            self._sound.copy_until(self._held.time - self._first + step)
        self._container.mux(self._stream.encode())

    def _close(self) -> None:
        try:
            if self._container is not None:
                self._container.close()
        finally:
            if self._sound is not None:
                self._sound.close()


class _PaletteGraph:
    """RGB frames to frames of 256 colours, each with the palette that fits it."""

    def __init__(self, width: int, height: int) -> None:
        import av

        self.graph = av.filter.Graph()
        rgb = av.VideoFormat("rgb24", width, height)
        source = self.graph.add_buffer(width=width, height=height, format=rgb, time_base=Fraction(1, 100))
        split = self.graph.add("split")
        palette = self.graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
        use = self.graph.add("paletteuse", "new=1")
        source.link_to(split)
        split.link_to(use, 0, 0)
        split.link_to(palette, 1, 0)
        palette.link_to(use, 0, 1)
        use.link_to(self.graph.add("buffersink"))
        self.graph.configure()
        self.count = 0

    def __call__(self, picture: VideoFrame) -> VideoFrame:
        picture.pts, picture.time_base = self.count, Fraction(1, 100)
        self.count += 1
        self.graph.push(picture)
        return self.graph.vpull()


def write_video(
    path: str | os.PathLike[str],
    frames: Iterable[Frame],
    *,
    fps: float | None = None,
    lossless: bool = False,
    quality: int = 18,
    soundtrack: Soundtrack | None = None,
) -> None:
    """Write all ``frames`` to ``path``, all or nothing; see ``VideoWriter``."""
    with VideoWriter(path, fps=fps, lossless=lossless, quality=quality, soundtrack=soundtrack) as writer:
        writer.write_all(frames)
