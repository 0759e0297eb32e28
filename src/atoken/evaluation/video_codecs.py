"""Video codecs at the bytes of the tokens, through PyAV: the best constant quality that fits."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .codecs import best_fit
from .methods import Method, Outcome

ENCODERS: dict[str, tuple[str, int, dict[str, str]]] = {
    "H.264": ("libx264", 51, {"preset": "medium"}),
    "AV1": ("libsvtav1", 63, {"preset": "6"}),
}
"""Encoder, its worst constant quality (crf), and its options."""
RATE = 24
"""Frames a second that encoders are told; sizes hardly depend on it."""


class VideoCodec(Method):
    """H.264 or AV1 (4:2:0, raw stream in Matroska) at ``rate`` times ``limit(clip)`` bytes.

    Where even the lowest quality is larger, that one is taken and the outcome is marked ``over``. Raises ``ValueError``
    where PyAV is missing.
    """

    def __init__(self, codec: str, limit: Callable[[np.ndarray], int], rate: float = 1.0) -> None:
        try:
            import av
        except ImportError:
            raise ValueError(f"{codec} needs PyAV: pip install 'atoken[video]'") from None
        os.environ.setdefault("SVT_LOG", "1")  # else it writes its settings to stderr for every stream
        self._av = av
        self.family = self.codec = codec
        self.limit, self.rate = limit, rate
        self.name = codec if rate == 1 else f"{codec} × {rate:g}"
        self.encoder, self.worst, self.options = ENCODERS[codec]

    def reconstruct(self, clips: Sequence[np.ndarray]) -> list[Outcome]:
        """Each clip as one stream; odd sides are padded by one pixel and cropped back."""
        outcomes = []
        for clip in clips:
            limit = int(self.limit(clip) * self.rate)
            data = best_fit(partial(self._encode, clip), limit, 0, self.worst)
            outcomes.append(Outcome(self._decode(data, clip.shape), 8 * len(data), over=len(data) > limit))
        return outcomes

    def _encode(self, clip: np.ndarray, quality: int) -> bytes:
        height, width = clip.shape[1:3]
        padded = np.pad(clip, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        stream_bytes = io.BytesIO()
        with self._av.open(stream_bytes, "w", format="matroska") as container:
            stream = container.add_stream(
                self.encoder, rate=RATE, options={"crf": str(self.worst - quality), **self.options}
            )
            stream.width, stream.height, stream.pix_fmt = padded.shape[2], padded.shape[1], "yuv420p"
            for frame in padded:
                container.mux(stream.encode(self._av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        return stream_bytes.getvalue()

    def _decode(self, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
        with self._av.open(io.BytesIO(data)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        count, height, width, _ = shape
        if len(frames) != count:
            raise ValueError(f"{self.name} gave {len(frames)} of {count} frames back")
        return np.stack(frames)[:, :height, :width]

    def describe(self) -> dict[str, Any]:
        """Encoder, options and rate."""
        return {
            "type": "codec",
            "codec": self.codec,
            "encoder": f"PyAV {self._av.__version__}, {self.encoder}",
            "options": {**self.options, "pixels": "yuv420p", "container": "matroska"},
            "limit": f"{self.rate:g} x the bytes of the discrete tokens",
        }
