"""The seam of time tiles: how much worse frames beside a tile border are than the same frames inside a tile."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..media.video.frames import Clip, Frame
from ..metrics.psnr import psnr
from ..pipeline.atoken import AToken
from ..tokens.patch import PATCH


@dataclass(frozen=True)
class Seam:
    """PSNR of decoded frames and of the steps between them, mean over frames, in dB."""

    border: float
    """Frames beside a border between two tiles: the last one of a tile and the first one of the next."""
    inside: float
    """The same frames where tiles begin half a tile later, so that they lie in the middle of one."""
    border_steps: float
    """Differences of neighbouring frames across a border, against those of the originals: a jump shows here."""
    inside_steps: float
    """The same differences inside tiles."""
    borders: int
    """Number of borders, those of both ways of tiling."""


def measure_seam(model: AToken, clips: Iterable[Iterable[Frame]]) -> Seam:
    """Encode and decode ``clips`` from their first frame and from half a tile later on, and compare the frames at the
    decoder's tile borders of each with themselves in the other.

    Other frames would not do: a cut that falls on a border is harder for its own sake. A clip of one tile has no
    border. Raises ``ValueError`` where no clip has one, and for tiles of one latent step, which have no middle.
    """
    length, later = model.config.decoder_tile * PATCH[0], model.config.decoder_tile // 2 * PATCH[0]
    if not later:
        raise ValueError("tiles of one latent step have no inside that their borders could be compared with")
    frames: tuple[list[float], list[float]] = ([], [])
    steps: tuple[list[float], list[float]] = ([], [])
    for clip in clips:
        shown = list(clip)
        if len(shown) <= length:
            continue
        originals = np.stack([frame.pixels for frame in shown])
        times = [frame.time for frame in shown]
        decoded = {
            start: model.decode(model.encode(Clip(originals[start:], times=times[start:]))) for start in (0, later)
        }
        for start, other in ((0, later), (later, 0)):
            for border in range(start + length, len(shown), length):
                wanted = originals[border - 1 : border + 1]
                for beside, tiling in enumerate((other, start)):
                    given = decoded[tiling][border - 1 - tiling : border + 1 - tiling]
                    frames[beside].extend(psnr(*pair) for pair in zip(given, wanted, strict=True))
                    steps[beside].append(_step_psnr(given, wanted))
    if not steps[1]:
        raise ValueError(f"no clip is longer than one tile of {length} frames, so there is no border to measure")
    frame_means, step_means = ([float(np.mean(values)) for values in kind] for kind in (frames, steps))
    return Seam(frame_means[1], frame_means[0], step_means[1], step_means[0], len(steps[1]))


def _step_psnr(decoded: np.ndarray, originals: np.ndarray) -> float:
    """PSNR of the difference between two frames [2, H, W, 3], against that of the originals."""
    wanted, given = (np.diff(pair.astype(np.float64), axis=0) for pair in (originals, decoded))
    error = np.square(given - wanted).mean()
    return float(10 * np.log10(255**2 / error)) if error > 0 else float("inf")
