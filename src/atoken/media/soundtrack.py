"""The sound of a video file, copied packet by packet beside new pictures; it is never decoded."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

from .pyav import require_av


class Soundtrack:
    """The first audio stream of the file ``path``."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def attach(self, output: Any, start: float) -> SoundCopy:
        """Add the stream to an open output container, as it lies beside the pictures from ``start`` (seconds) on.

        Raises ``ValueError`` where the container cannot hold it.
        """
        return SoundCopy(self.path, output, start)


class SoundCopy:
    """The copying of one soundtrack into one file."""

    def __init__(self, path: Path, output: Any, start: float) -> None:
        av = require_av()
        self.output = output
        self.input = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
        audio = self.input.streams.audio
        if not audio:
            self.close()
            raise ValueError(f"{path} has no sound to keep")
        pictures = self.input.streams.video[0]
        self.begin = (pictures.start_time or 0) * pictures.time_base + Fraction(start)
        codec = audio[0].codec_context.name
        try:
            self.stream = output.add_stream_from_template(audio[0])
        except (av.FFmpegError, ValueError) as error:
            self.close()
            raise ValueError(f"{output.format.name} cannot hold {codec} sound: use .mkv") from error
        self.packets = self.input.demux(audio[0])
        self.waiting = next(self.packets, None)

    def close(self) -> None:
        """Close the file that is copied from."""
        self.input.close()

    def copy_until(self, time: float) -> None:
        """Copy what is heard before ``time``, in seconds from the first frame that is written."""
        while self.waiting is not None:
            packet = self.waiting
            if packet.dts is not None and packet.pts is not None and packet.size:
                at = packet.pts * packet.time_base - self.begin
                if at >= time:
                    return
                if at >= 0:
                    shift = round(self.begin / packet.time_base)
                    packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, self.stream
                    self.output.mux(packet)
            self.waiting = next(self.packets, None)
