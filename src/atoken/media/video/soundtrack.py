"""The sound of a video file, copied packet by packet beside new pictures; it is never decoded."""

from __future__ import annotations

import os
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...core.errors import ReadError
from .clock import LEAP
from .pyav import MAY_LEAP, ffmpeg_reading, main_stream, opened, require_av


class Soundtrack:
    """The audio stream of the file ``path`` that players play: the default one, else the first."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def attach(self, output: Any, start: float) -> SoundCopy:
        """Add the stream to an open output container, as it lies beside the pictures from ``start`` (seconds) on.

        Raises ``ValueError`` where the container cannot hold it, ``ReadError`` where the file cannot be read.
        """
        return SoundCopy(self.path, output, start)


class SoundCopy:
    """The copying of one soundtrack into one file."""

    def __init__(self, path: Path, output: Any, start: float) -> None:
        self.path, self.output = path, output
        self._stack = ExitStack()
        with self._stack, ffmpeg_reading(path):
            container = self._stack.enter_context(opened(path))
            audio, pictures = main_stream(container.streams.audio), main_stream(container.streams.video)
            if audio is None:
                raise ReadError(f"{path} has no sound to keep")
            self.stream = self._added(audio)
            self.may_leap = bool(container.format.flags & MAY_LEAP)
            first = (pictures.start_time or 0) * pictures.time_base if pictures and pictures.time_base else 0
            self.begin = first + Fraction(start)
            self.end: Fraction | None = None
            self.packets = container.demux(audio)
            self.waiting = next(self.packets, None)
            self._stack = self._stack.pop_all()  # it stays open

    def _added(self, audio: Any) -> Any:
        """The stream of the output for packets of ``audio``."""
        try:
            return self.output.add_stream_from_template(audio)
        except (require_av().FFmpegError, ValueError) as error:
            codec = audio.codec_context.name
            raise ReadError(
                f"{self.output.format.name} cannot hold the {codec} sound of {self.path}: use .mkv"
            ) from error

    def close(self) -> None:
        """Close the file that is copied from."""
        self._stack.close()

    def copy_until(self, time: float) -> None:
        """Copy what is heard before ``time``, in seconds from the first frame that is written."""
        while self.waiting is not None:
            packet = self.waiting
            if packet.dts is not None and packet.pts is not None and packet.size:
                self._follow(packet)
                at = packet.pts * packet.time_base - self.begin
                if at >= time:
                    return
                if at >= 0:
                    shift = round(self.begin / packet.time_base)
                    packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, self.stream
                    self.output.mux(packet)
            with ffmpeg_reading(self.path):
                self.waiting = next(self.packets, None)

    def _follow(self, packet: Any) -> None:
        """Where the stamps begin anew (joined streams), let them go on from the packet before, as ``Clock`` does."""
        at = packet.dts * packet.time_base
        if self.end is not None and self.may_leap and not 0 <= at - self.end + 1 <= LEAP + 1:
            self.begin += at - self.end
        self.end = at + (packet.duration or 0) * packet.time_base
