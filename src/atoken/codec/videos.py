"""Videos to tokens and back, one time tile after the other: memory does not grow with the length.

A tile is what the encoder sees together (``encoder_tile`` latent steps, 16 frames). The whole clip at once is the same
computation tile by tile, so that streaming gives the same bits.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..config import PATCH
from ..media.frames import Clip, Frame, tiles
from ..media.patchify import frames_to_patches, patches_to_frames
from ..media.video import open_video
from ..token_file import TokenFile
from ..tokens import Packed, Tokens, dense_coords
from .quantize import quantize

if TYPE_CHECKING:
    from ..model.memory import TileMemory
    from ..model.tokenizer import AToken
    from . import EncodeOptions

STEP = PATCH[0]
"""Frames of one latent step."""


def encode_stream(model: AToken, source: Any, options: EncodeOptions) -> Iterator[Tokens]:
    """Tokens of each tile of a video, each complete in itself, its time counting from 0."""
    for frames in tiles(frames_of(source), model.config.encoder_tile * STEP):
        yield _encode_tile(model, frames, options)  # a function's own tensors are gone before the next tile is read


def _encode_tile(model: AToken, frames: list[Frame], options: EncodeOptions) -> Tokens:
    packed, grid = _packed(frames)
    with torch.no_grad():
        posterior = model.encode_packed(packed, pool=False).posterior
        values = quantize(model, posterior, options)
    size = frames[0].pixels.shape[:2]
    return model.stamp(
        options.kind,
        values,
        packed.coords[:, 1:],
        grid=grid,
        size=size,
        box=(0, 0, *size),
        modality="video",
        times=torch.tensor([frame.time for frame in frames], dtype=torch.float64),
    )


def encode(model: AToken, videos: Sequence[Any], options: EncodeOptions) -> list[Tokens]:
    """Tokens of each video."""
    return [join(list(encode_stream(model, video, options))) for video in videos]


def join(chunks: Sequence[Tokens]) -> Tokens:
    """The tokens of neighbouring tiles as those of one video.

    Raises ``ValueError`` where there are none, or one that does not fill its last latent step has others after it.
    """
    if not chunks:
        raise ValueError("there are no tokens to join")
    if any(frame_count(chunk) != chunk.grid[0] * STEP for chunk in chunks[:-1]) or any(
        chunk.first_frame for chunk in chunks[1:]
    ):
        raise ValueError("only the last of the joined tokens may end inside a latent step, and none may begin inside")
    grid = (sum(chunk.grid[0] for chunk in chunks), *chunks[0].grid[1:])
    times = [chunk.times for chunk in chunks if chunk.times is not None]
    values = torch.cat([chunk.values for chunk in chunks])
    return replace(chunks[0], values=values, coords=dense_coords(grid), grid=grid, times=torch.cat(times))


def frame_count(tokens: Tokens | TokenFile) -> int:
    """Real frames that tokens stand for. Raises ``ValueError`` where they are no video's."""
    if tokens.times is None or len(tokens.times) == 0:
        raise ValueError(
            f"tokens of a video need the times of its frames, and these {tokens.modality} tokens have none"
        )
    return len(tokens.times)


def decode_stream(
    model: AToken, source: Tokens | TokenFile | str | os.PathLike[str] | Iterable[Tokens]
) -> Iterator[Clip]:
    """The frames of each decoder tile, with their times; tiles without a wanted frame are not computed.

    With the decoder's cache a tile needs all tiles before it: they are computed from the first one on.
    """
    if isinstance(source, str | os.PathLike):
        with TokenFile(source) as file:
            yield from decode_stream(model, file)
        return
    if isinstance(source, Tokens | TokenFile):
        yield from _decode_stored(model, source)
        return
    chunks = iter(source)
    first = next(chunks, None)
    if first is None:
        raise ValueError("there are no tokens to decode")
    times: list[float] = []
    steps = _steps_of_chunks(model, first, chunks, times)
    yield from _decode_steps(model, first, steps, first.first_frame, times)


def decode(model: AToken, tokens: Sequence[Tokens], token_budget: int) -> list[np.ndarray]:
    """The frames of each video, uint8 [T, H, W, 3] in its original size; always one tile at a time."""
    return [np.concatenate([clip.frames for clip in decode_stream(model, item)]) for item in tokens]


def embed(model: AToken, videos: Sequence[Any], options: EncodeOptions) -> list[Tensor]:
    """Embeddings of the videos, each fp32 [1, W]; the pooling reads the tokens of all tiles, so these are in memory."""
    vectors = []
    for video in videos:
        parts = tiles(frames_of(video), model.config.encoder_tile * STEP)
        hidden = torch.cat([model.encode_packed(_packed(frames)[0], pool=False).hidden for frames in parts])
        sample = torch.zeros(len(hidden), dtype=torch.int64, device=hidden.device)
        vectors.append(model.encoder.head(hidden, sample).cpu())
    return vectors


def frames_of(source: Any) -> Iterable[Frame]:
    """A path, ``Clip``, ``Video`` or other iterable of ``Frame`` as frames. Raises ``ValueError`` for a bare array."""
    if isinstance(source, str | os.PathLike):
        return open_video(source)
    if isinstance(source, np.ndarray | Tensor):
        if 0 in source.shape:
            raise ValueError(f"the array is empty: its shape is {list(source.shape)}")
        raise ValueError("an array of frames does not say when they are shown: pass atoken.Clip(array, fps=...)")
    return source


def _packed(frames: list[Frame]) -> tuple[Packed, tuple[int, int, int, int]]:
    """The patches of a tile, and its grid."""
    patches, coords, grid = frames_to_patches(np.stack([frame.pixels for frame in frames]))
    return Packed.cat([(patches, coords)]), grid


def _decode_stored(model: AToken, tokens: Tokens | TokenFile) -> Iterator[Clip]:
    """Only the tiles that hold wanted frames; with a cache also those before them."""
    model.check_origin(tokens)
    count, start, tile = frame_count(tokens), tokens.first_frame, model.config.decoder_tile
    first = 0 if model.config.decoder_cache else start // (STEP * tile) * tile
    end = -(-(start + count) // (STEP * tile)) * tile
    steps = islice(tokens.latent_steps(first), end - first)
    assert tokens.times is not None
    yield from _decode_steps(model, tokens, steps, start - first * STEP, tokens.times.tolist())


def _steps_of_chunks(model: AToken, first: Tokens, rest: Iterator[Tokens], times: list[float]) -> Iterator[Tensor]:
    """Latents of each step; ``times`` grows with them."""
    chunk: Tokens | None = first
    whole = True
    while chunk is not None:
        model.check_origin(chunk)
        if not whole or chunk.grid[1:] != first.grid[1:] or (chunk.first_frame and chunk is not first):
            raise ValueError(
                "only the last of the chunks may end inside a latent step, none may begin inside, and all need one grid"
            )
        whole = frame_count(chunk) == chunk.grid[0] * STEP
        times += chunk.times.tolist() if chunk.times is not None else []
        yield from chunk.latent_steps()
        chunk = next(rest, None)


def _decode_steps(
    model: AToken, like: Tokens | TokenFile, steps: Iterator[Tensor], skip: int, times: list[float]
) -> Iterator[Clip]:
    """Decode latent steps [rows * columns, C] tile by tile, leaving out the first ``skip`` frames.

    Times are taken from the front of ``times``, which may still grow while steps are read.
    """
    memory = model.tile_memory()
    while tile := list(islice(steps, model.config.decoder_tile)):
        frames = _decode_tile(model, tile, like, memory)
        real = min(len(tile) * STEP - skip, len(times))
        if real > 0:
            yield Clip(frames[skip : skip + real], times=times[:real])
            del times[:real]
        skip = max(0, skip - len(tile) * STEP)


def _decode_tile(model: AToken, steps: list[Tensor], like: Tokens | TokenFile, memory: TileMemory | None) -> np.ndarray:
    grid = (len(steps), *like.grid[1:])
    packed = Packed.cat([(torch.cat(steps), dense_coords(grid))])
    with torch.no_grad():
        return patches_to_frames(model.decode_tile(packed, memory), grid, like.box)
