"""What a command is in for: tokens, bytes and a time measured on this machine, said before long work begins."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ..codec.windows import windows_of
from ..core.errors import reading
from ..media.image.opener import open_picture
from ..media.video.source import Video
from ..pipeline.atoken import AToken
from ..tokenizer.config import ModelConfig
from ..tokens.patch import PATCH

LONG = 20.0
"""Seconds from which on work is long enough to be announced."""
FEW_TOKENS = 16384
"""Nothing is measured for work of fewer tokens."""
LOOKED_AT = 256
"""Files whose size is read; the others are taken to be like them."""
_SIDE, _SQUARE = 512, 4096
"""What is measured: a picture of that side in pixels, and one attention over that many tokens."""


@dataclass(frozen=True)
class Extent:
    """Tokens of a file, and how many of them attend to each other."""

    tokens: int
    segment: int
    again: int = 0
    """Tokens that are computed once more, as context of their neighbours."""


@dataclass(frozen=True)
class Speed:
    """Seconds for each token, and for each pair of tokens that attend to each other."""

    token: float
    pair: float

    def seconds(self, extent: Extent) -> float:
        """How long a file takes."""
        return (extent.tokens + extent.again) * (self.token + self.pair * extent.segment)


@dataclass(frozen=True)
class Work:
    """All files together; ``unknown`` of them tell their size only once they are read."""

    tokens: int
    seconds: float
    unknown: int


def picture_extent(path: Path, size: Callable[[int, int], tuple[int, int]], config: ModelConfig) -> Extent:
    """Of a picture, from its header; ``size`` is what becomes of its height and width. Raises ``ReadError``."""
    with open_picture(path) as image:
        return _extent(1, *size(image.height, image.width), config)


def _extent(steps: int, height: int, width: int, config: ModelConfig) -> Extent:
    """Of ``steps`` latent steps of that many pixels, in the model's spatial tiles."""
    rows, columns = -(-height // PATCH[1]), -(-width // PATCH[2])
    largest = max(a * b for a, b in (window.shape for window in windows_of((1, rows, columns, 1), config.spatial_tile)))
    return Extent(steps * rows * columns, min(steps, config.encoder_tile) * largest)


def token_extent(facts: Mapping[str, str], tokens: int, config: ModelConfig) -> Extent:
    """Of a token file's header, for the decoder, which sees each spatial tile with one patch of context around it.

    May raise anything for a header that is none.
    """
    if facts.get("modality") == "3d":
        return Extent(tokens, tokens)
    grid, tile = json.loads(facts["grid"]), json.loads(facts.get("spatial_tile", "null"))
    steps, rows, columns, _ = grid
    if math.prod(grid) != tokens:  # a damaged header: its reader says so
        return Extent(tokens, tokens)
    sides = [window.shape for window in windows_of(grid, tile)]
    seen = [min(a + 2, rows) * min(b + 2, columns) for a, b in sides]
    return Extent(tokens, min(steps, config.decoder_tile) * max(seen), max(steps * sum(seen) - tokens, 0))


def video_extent(video: Video, config: ModelConfig) -> Extent | None:
    """Of a video, from what its header says; None where that is no number of frames."""
    frames = expected_frames(video)
    if not frames:
        return None
    return _extent(-(-frames // PATCH[0]), *video.frame_size, config)


def expected_frames(video: Video) -> int | None:
    """Frames that a video is read as, going by their number in its header, or by its duration."""
    facts = video.facts
    if not facts.fps:
        return facts.frames if (video.fps, video.start, video.end) == (None, None, None) else None
    whole = facts.frames / facts.fps if facts.frames else facts.seconds
    if not whole:
        return None
    seconds = min(video.end or math.inf, whole) - (video.start or 0)
    return max(round(seconds * (video.fps or facts.fps)), 1)


def frames_text(video: Video) -> str:
    """``expected_frames`` as they are shown: "about" where only the duration tells, "?" where nothing does."""
    expected = expected_frames(video)
    return "?" if expected is None else f"{'' if video.facts.frames else 'about '}{expected}"


def measure_speed(model: AToken, *, encode: bool, decode: bool) -> Speed:
    """Time a small picture, and one attention, in the model's precision and on its device."""

    def seconds(work: Callable[[], object]) -> float:
        work()
        _wait(model.device)
        start = time.perf_counter()
        work()
        _wait(model.device)
        return time.perf_counter() - start

    picture = np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
    tokens, config = model.encode(picture), model.config
    whole = (seconds(lambda: model.encode(picture)) if encode else 0.0) + (
        seconds(lambda: model.decode(tokens)) if decode else 0.0
    )
    heads = torch.randn(1, config.heads, _SQUARE, config.head_dim, device=model.device, dtype=model.proj.weight.dtype)
    with torch.no_grad():
        attention = seconds(lambda: F.scaled_dot_product_attention(heads, heads, heads))
    blocks = (config.encoder_depth if encode else 0) + (config.decoder_depth if decode else 0)
    pair = blocks * attention / _SQUARE**2
    count, segment = len(tokens), _extent(1, _SIDE, _SIDE, config).segment
    return Speed(max(whole / count - pair * segment, 0.1 * whole / count), pair)


def estimate(files: Sequence[Path], extent: Callable[[Path], Extent | None], speed: Callable[[], Speed]) -> Work | None:
    """What all ``files`` take together; None where that is too little to be measured.

    ``extent`` may raise anything: such a file is left to the reader, which says what is wrong with it.
    """
    looked_at = files[:: -(-len(files) // LOOKED_AT)] if files else files
    known: list[Extent] = []
    unknown = 0
    for path in looked_at:
        with suppress(ValueError, OSError), reading(path):
            found = extent(path)
            if found is None:
                unknown += 1
            else:
                known.append(found)
    share = len(files) / max(len(looked_at), 1)
    tokens = round(share * sum(item.tokens for item in known))
    if tokens < FEW_TOKENS:
        return None
    measured = speed()
    return Work(tokens, share * sum(map(measured.seconds, known)), round(share * unknown))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
