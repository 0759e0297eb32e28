"""What a video file says of itself, and what is known of its damage."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.errors import ReadError


@dataclass(frozen=True)
class VideoFacts:
    """A video file, as its header and its first frame describe it."""

    container: str
    codec: str
    width: int
    height: int
    """Upright: after the rotation that the file asks for."""
    fps: float | None
    """Average frames a second by the header."""
    frames: int | None
    """Number of frames by the header, an estimate that more or fewer frames may follow; many containers do not tell."""
    pixel_format: str
    audio: str | None = None
    """Codec of the sound, if there is any."""
    rotation: int = 0
    """Degrees, clockwise, by which stored frames are turned to stand upright."""
    seconds: float | None = None
    """Duration by the header, an estimate; for containers that do not tell a number of frames."""
    notes: tuple[str, ...] = ()
    """What is done about peculiarities, one sentence each."""


class Damaged(ReadError):
    """Raised by a decoder behind the last frame that can be trusted; ``Video`` puts the file's name in front."""

    def __init__(self, reason: str, lost: int | None) -> None:
        super().__init__(reason)
        self.reason, self.lost = reason, lost
