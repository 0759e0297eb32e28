"""The seam of time tiles: how much worse the frames beside a tile border are than those inside a tile."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np

from ..config import PATCH
from ..media.frames import Clip, Frame
from ..model.tokenizer import AToken
from .psnr import psnr


@dataclass(frozen=True)
class Seam:
    """PSNR of decoded frames and of the steps between them, mean over frames, in dB."""

    border: float
    """Frames beside a border between two tiles: the last one of a tile and the first one of the next."""
    inside: float
    """All other frames of the same tiles."""
    border_steps: float
    """Differences of neighbouring frames across a border, against those of the originals: a jump shows here."""
    inside_steps: float
    """The same differences inside tiles."""
    borders: int
    """Number of borders."""


def measure_seam(model: AToken, clips: Iterable[Iterable[Frame]]) -> Seam:
    """Encode and decode ``clips``, and compare the frames at the decoder's tile borders with the rest.

    A clip of one tile has no border. Raises ``ValueError`` where no clip has one.
    """
    length = model.config.decoder_tile * PATCH[0]
    frames: tuple[list[float], list[float]] = ([], [])
    steps: tuple[list[float], list[float]] = ([], [])
    for clip in clips:
        shown = list(clip)
        originals = np.stack([frame.pixels for frame in shown])
        count = len(originals)
        decoded = model.decode(model.encode(Clip(originals, times=[frame.time for frame in shown])))
        borders = range(length, count, length)
        beside = set(chain.from_iterable((border - 1, border) for border in borders))
        for index in range(count if borders else 0):
            frames[index in beside].append(psnr(decoded[index], originals[index]))
        for index in range(1, count if borders else 0):
            steps[index in borders].append(_step_psnr(decoded, originals, index))
    if not frames[True]:
        raise ValueError(f"no clip is longer than one tile of {length} frames, so there is no border to measure")
    inside, border = (float(np.mean(values)) for values in frames)
    inside_steps, border_steps = (float(np.mean(values)) for values in steps)
    return Seam(border, inside, border_steps, inside_steps, len(steps[True]))


def _step_psnr(decoded: np.ndarray, originals: np.ndarray, index: int) -> float:
    """PSNR of the difference between frame ``index`` and the one before, against that of the originals."""
    pair = slice(index - 1, index + 1)
    wanted, given = (np.diff(x[pair].astype(np.float64), axis=0) for x in (originals, decoded))
    error = np.square(given - wanted).mean()
    return float(10 * np.log10(255**2 / error)) if error > 0 else float("inf")
