"""Picture codecs at the bytes of the tokens: the best quality that fits, found by halving the range of qualities."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import PIL
from PIL import Image, features

from ..media.image.files import read_image
from .methods import Method, Outcome

OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"optimize": True, "subsampling": "4:2:0"},
    "WebP": {"method": 6},
    "AVIF": {"speed": 4, "subsampling": "4:2:0"},
}
LIBRARIES = {"JPEG": "libjpeg_turbo", "WebP": "webp", "AVIF": "avif"}


class PictureCodec(Method):
    """JPEG, WebP or AVIF through Pillow, frame by frame, at ``rate`` times ``limit(clip)`` bytes.

    Where even the lowest quality is larger, that one is taken and the outcome is marked ``over``.
    """

    def __init__(self, codec: str, limit: Callable[[np.ndarray], int], rate: float = 1.0) -> None:
        if codec not in OPTIONS:
            raise ValueError(f"no codec {codec!r}: there are {', '.join(OPTIONS)}")
        self.family = self.codec = codec
        self.limit, self.rate = limit, rate
        self.name = codec if rate == 1 else f"{codec} × {rate:g}"

    def reconstruct(self, clips: Sequence[np.ndarray]) -> list[Outcome]:
        """Each frame by itself, with an equal share of the clip's bytes."""
        outcomes = []
        for clip in clips:
            share = int(self.limit(clip) * self.rate) // len(clip)
            found = [best_fit(partial(self._encode, frame), share) for frame in clip]
            frames = np.stack([read_image(data) for data in found])
            sizes = [len(data) for data in found]
            outcomes.append(Outcome(frames, 8 * sum(sizes), over=max(sizes) > share))
        return outcomes

    def _encode(self, frame: np.ndarray, quality: int) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(frame).save(stream, self.codec.upper(), quality=quality, **OPTIONS[self.codec])
        return stream.getvalue()

    def describe(self) -> dict[str, Any]:
        """Codec, encoder and rate."""
        library = LIBRARIES[self.codec]
        version = features.version(library)
        limit = f"{self.rate:g} x the bytes of the discrete tokens"
        return {
            "type": "codec",
            "codec": self.codec,
            "encoder": f"Pillow {PIL.__version__}, {library} {version}",
            "options": OPTIONS[self.codec],
            "limit": limit,
        }


def best_fit(encode: Callable[[int], bytes], limit: int, lowest: int = 0, highest: int = 100) -> bytes:
    """What ``encode`` makes with the highest quality of ``lowest`` ... ``highest`` that stays within ``limit`` bytes.

    Sizes are taken to grow with the quality. Where even the lowest is larger, that one is returned.
    """
    best = encode(lowest)
    if len(best) > limit:
        return best
    while lowest < highest:
        middle = (lowest + highest + 1) // 2
        data = encode(middle)
        if len(data) <= limit:
            lowest, best = middle, data
        else:
            highest = middle - 1
    return best
