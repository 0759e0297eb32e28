"""One video through the model, from file to file: reading, model and writing at the same time, memory bounded.

Three threads with a few items between them; the model itself computes with as many threads as torch has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.prefetch import prefetch
from ..media.video.frames import Frame
from ..media.video.soundtrack import Soundtrack
from ..media.video.source import Video
from ..media.video.writer import VideoWriter
from ..metrics.psnr import psnr
from ..tokens.stream import TokenFile, TokenWriter
from ..tokens.tokens import Tokens
from .atoken import AToken

FRAMES_AHEAD = 8


def _unsaid(path: Path, how_far: str) -> None:
    """Where nobody wants to know how far the work is."""


@dataclass(frozen=True)
class Reconstruction:
    """What became of a video."""

    frames: int
    tokens: int
    psnr: float
    """Mean over the frames, dB."""


def encode(model: AToken, video: Video, kind: str, target: Path, stored: Callable[[Tokens], Tokens]) -> int:
    """Write the token file of a video, each tile as ``stored`` gives it; returns the number of tokens."""
    encoded = prefetch(model.encode_stream(prefetch(video, FRAMES_AHEAD), kind=kind))
    with closing(encoded) as tiles, TokenWriter(target) as writer:  # no thread goes on where writing fails
        for tile in tiles:
            writer.write(stored(tile))
    return writer.tokens


def decode(
    model: AToken, source: Path, target: Path, lossless: bool, note: Callable[[Path, str], None] = _unsaid
) -> int:
    """Write the video of a token file; returns the number of tokens. ``note`` is told of each tile."""
    with TokenFile(source) as tokens:
        assert tokens.times is not None
        fps = steady_rate(tokens.times.numpy())
        decoded = prefetch(model.decode_stream(tokens), 1)
        with closing(decoded) as clips, VideoWriter(target, fps=fps, lossless=lossless) as writer:
            done = 0
            for clip in clips:
                writer.write_all(clip)
                done += sum(1 for _ in clip)
                note(source, f"{done} of {len(tokens.times)} frames")
        return tokens.tokens


def reconstruct(
    model: AToken,
    video: Video,
    kind: str,
    target: Path,
    lossless: bool,
    keep_audio: bool,
    note: Callable[[Path, str], None] = _unsaid,
) -> Reconstruction:
    """Write what the tokens of a video give back, and compare the two frame by frame; ``note`` is told of each tile."""
    sound = Soundtrack(video.path) if keep_audio and video.facts.audio else None
    originals: deque[np.ndarray] = deque()
    counts: list[int] = []

    def noting_frames() -> Iterator[Frame]:
        for frame in video:
            originals.append(frame.pixels)
            yield frame

    def noting_tiles() -> Iterator[Tokens]:
        for tile in model.encode_stream(prefetch(noting_frames(), FRAMES_AHEAD), kind=kind):
            counts.append(len(tile))
            yield tile

    scores = []
    decoded = prefetch(model.decode_stream(noting_tiles()), 1)
    fps = video.fps or video.facts.fps
    with closing(decoded) as clips, VideoWriter(target, fps=fps, lossless=lossless, soundtrack=sound) as writer:
        for clip in clips:
            for frame in clip:
                scores.append(psnr(frame.pixels, originals.popleft()))
                writer.write(frame)
            note(video.path, f"{len(scores)} frames")
    return Reconstruction(len(scores), sum(counts), float(np.mean(scores)))


def steady_rate(times: np.ndarray) -> float | None:
    """Frames a second, where all steps between ``times`` are equal to a millisecond or so; else None."""
    steps = np.diff(times)
    if len(steps) == 0 or np.ptp(steps) > 2e-3:
        return None
    return float(len(steps) / (times[-1] - times[0]))
