"""What time is worth: a video's tokens against as many tokens that hold its frames as single images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..media.video.frames import Clip, Frame
from ..metrics.psnr import psnr
from ..pipeline.atoken import AToken


@dataclass(frozen=True)
class Stills:
    """Mean PSNR in dB over all frames of all clips, against the frames in their own size."""

    video: float
    """Coded as videos."""
    images: float
    """Each frame by itself at half its height and width, a quarter of the tokens, and enlarged again (Lanczos)."""
    video_tokens: int
    image_tokens: int


def measure_stills(model: AToken, clips: Iterable[Iterable[Frame]]) -> Stills:
    """Encode and decode ``clips`` in both ways. A token of a video holds four frames of a patch, so that both have
    about as many tokens. Raises ``ValueError`` where there are no clips.
    """
    scores: tuple[list[float], list[float]] = ([], [])
    counts = [0, 0]
    for clip in clips:
        shown = list(clip)
        originals = np.stack([frame.pixels for frame in shown])
        tokens = model.encode(Clip(originals, times=[frame.time for frame in shown]))
        counts[0] += len(tokens)
        scores[0].extend(map(psnr, model.decode(tokens), originals))
        height, width = originals.shape[1:3]
        for original in originals:
            small = _resized(original, -(-width // 2), -(-height // 2))
            image = model.encode(small)
            counts[1] += len(image)
            scores[1].append(psnr(_resized(model.decode(image), width, height), original))
    if not scores[0]:
        raise ValueError("there are no clips to measure")
    return Stills(float(np.mean(scores[0])), float(np.mean(scores[1])), counts[0], counts[1])


def _resized(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))
