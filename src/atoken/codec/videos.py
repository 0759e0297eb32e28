"""Videos to tokens and back, one time tile after the other: memory does not grow with the length.

A tile is what the encoder sees together (``encoder_tile`` latent steps, 16 frames). The whole clip at once is the same
computation tile by tile, so that streaming gives the same bits.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..media.patchify import frames_to_patches
from ..media.pixels import normalised
from ..media.video.frames import Clip, Frame, tiles
from ..media.video.source import open_video
from ..nn.packed import Packed, dense_coords
from ..tokens.patch import PATCH, spatial_tile_of
from ..tokens.stream import TokenFile
from ..tokens.tokens import Tokens
from . import windows
from .arrays import PixelClip

if TYPE_CHECKING:
    from ..nn.cache import TileMemory
    from ..tokenizer.net import TokenizerNet
    from . import DecodeOptions, EncodeOptions

STEP = PATCH[0]
"""Frames of one latent step."""


def encode_stream(model: TokenizerNet, source: Any, options: EncodeOptions) -> Iterator[Tokens]:
    """Tokens of each tile of a video, each complete in itself, its time counting from 0."""
    wanted = windows.wanted_tile(model, options)
    for frames, times in _tiles(model, source):
        yield _encode_tile(model, frames, times, wanted, options)  # its tensors are gone before the next tile


def _tiles(model: TokenizerNet, source: Any) -> Iterator[tuple[Any, list[float]]]:
    """The frames that the encoder sees together, each [H, W, 3], and their times: arrays, or a tensor in [-1, 1]."""
    length = model.config.encoder_tile * STEP
    if isinstance(source, PixelClip):
        for start in range(0, len(source.frames), length):
            part = normalised(source.frames[start : start + length], source.value_range)
            yield part, [(start + index) / source.fps for index in range(len(part))]
        return
    for frames in tiles(frames_of(source), length):
        yield [frame.pixels for frame in frames], [frame.time for frame in frames]


def _patches(frames: Any, part: tuple[slice, slice] = (slice(None), slice(None))) -> tuple[Tensor, Tensor]:
    """Patches fp32 [N, 3072] and coords of some rows and columns of frames."""
    rows, columns = part
    if isinstance(frames, Tensor):
        return frames_to_patches(frames[:, rows, columns])[:2]
    return frames_to_patches(np.stack([frame[rows, columns] for frame in frames]))[:2]


def _encode_tile(
    model: TokenizerNet, frames: Any, times: list[float], wanted: int | None, options: EncodeOptions
) -> Tokens:
    height, width = size = tuple(frames[0].shape[:2])
    grid = (-(-len(frames) // STEP), -(-height // PATCH[1]), -(-width // PATCH[2]), 1)
    tile = spatial_tile_of(grid, wanted)

    with torch.no_grad():
        values = windows.encode_windows(model, grid, tile, lambda window: _patches(frames, window.pixels)[0], options)
    return model.stamp(
        options.kind,
        values,
        dense_coords(grid),
        grid=grid,
        size=size,
        box=(0, 0, *size),
        modality="video",
        times=torch.tensor(times, dtype=torch.float64),
        spatial_tile=tile,
    )


def encode(model: TokenizerNet, videos: Sequence[Any], options: EncodeOptions) -> list[Tokens]:
    """Tokens of each video."""
    return [join(list(encode_stream(model, video, options))) for video in videos]


def join(chunks: Sequence[Tokens]) -> Tokens:
    """The tokens of neighbouring tiles as those of one video.

    Raises ``ValueError`` where there are none, or one that does not fill its last latent step has others after it.
    """
    if not chunks:
        raise ValueError("there are no tokens to join")
    if len({(chunk.grid[1:], chunk.spatial_tile) for chunk in chunks}) > 1:
        raise ValueError("the joined tokens need one grid of patches and one spatial tile")
    whole = [frame_count(chunk) == chunk.grid[0] * STEP - chunk.first_frame for chunk in chunks[:-1]]
    if not all(whole) or any(chunk.first_frame for chunk in chunks[1:]):
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
    model: TokenizerNet, source: Tokens | TokenFile | str | os.PathLike[str] | Iterable[Tokens]
) -> Iterator[Clip]:
    """The frames of each decoder tile, with their times; tiles without a wanted frame are not computed.

    With the decoder's cache a tile needs all tiles before it: they are computed from the first one on.
    """
    if isinstance(source, str | os.PathLike):
        with TokenFile(source) as file:
            yield from decode_stream(model, file)
        return
    if isinstance(source, Tokens | TokenFile):
        yield from _clips(_decode_stored(model, source))
        return
    chunks = iter(source)
    first = next(chunks, None)
    if first is None:
        raise ValueError("there are no tokens to decode")
    yield from _clips(_decode_steps(model, first, _steps_of_chunks(model, chain([first], chunks))))


def _clips(parts: Iterator[_Frames]) -> Iterator[Clip]:
    for frames, times in parts:
        yield Clip(frames.numpy(), times=times)


def decode(model: TokenizerNet, tokens: Sequence[Tokens], options: DecodeOptions) -> list[np.ndarray | Tensor]:
    """The frames of each video in its original size, always one tile at a time.

    uint8 [T, H, W, 3], or fp32 [3, T, H, W] where the model is.
    """
    parts = ([frames for frames, _ in _decode_stored(model, item, options.as_tensor)] for item in tokens)
    return [options.clip(torch.cat(frames)) for frames in parts]


def embed(model: TokenizerNet, videos: Sequence[Any], options: EncodeOptions) -> list[Tensor]:
    """Embeddings of the videos, each fp32 [1, W]; the pooling reads the tokens of all tiles, so these are in memory."""
    vectors = []
    for video in videos:
        hidden = torch.cat([_hidden(model, frames) for frames, _ in _tiles(model, video)])
        sample = torch.zeros(len(hidden), dtype=torch.int64, device=hidden.device)
        vectors.append(model.encoder.head(hidden, sample).cpu())
    return vectors


def _hidden(model: TokenizerNet, frames: Any) -> Tensor:
    return model.encode_packed(Packed.cat([_patches(frames)]), pool=False).hidden


def frames_of(source: Any) -> Iterable[Frame]:
    """A path, ``Clip``, ``Video`` or other iterable of ``Frame`` as frames. Raises ``ValueError`` for a bare array."""
    if isinstance(source, str | os.PathLike):
        return open_video(source)
    if isinstance(source, np.ndarray | Tensor):
        if 0 in source.shape:
            raise ValueError(f"the array is empty: its shape is {list(source.shape)}")
        raise ValueError("an array of frames does not say when they are shown: pass atoken.Clip(array, fps=...)")
    return source


_Frames = tuple[Tensor, list[float]]
"""Frames [T, H, W, 3], and when they are shown."""


class _Step(NamedTuple):
    """One latent step, and the frames of it that are wanted."""

    latents: Tensor
    """float [rows * columns, C]."""
    first: int
    """Place of the first wanted frame among its four."""
    times: list[float]
    """When the wanted ones are shown, in seconds."""


def _decode_stored(model: TokenizerNet, tokens: Tokens | TokenFile, floats: bool = False) -> Iterator[_Frames]:
    """Only the tiles that hold wanted frames; with a cache also those before them."""
    model.check_origin(tokens)
    count, start, tile = frame_count(tokens), tokens.first_frame, model.config.decoder_tile
    first = 0 if model.config.decoder_cache else start // (STEP * tile) * tile
    end = -(-(start + count) // (STEP * tile)) * tile
    yield from _decode_steps(model, tokens, islice(_steps_of(tokens, first), end - first), floats)


def _steps_of(tokens: Tokens | TokenFile, first: int = 0) -> Iterator[_Step]:
    """The latent steps from ``first`` on."""
    assert tokens.times is not None
    times, begin = tokens.times.tolist(), tokens.first_frame
    for index, latents in enumerate(tokens.latent_steps(first), first):
        place = index * STEP - begin  # of the step's first frame among those that have times
        yield _Step(latents, max(0, -place), times[max(0, place) : max(0, place + STEP)])


def _steps_of_chunks(model: TokenizerNet, chunks: Iterator[Tokens]) -> Iterator[_Step]:
    """The latent steps of neighbouring tiles of one video. Raises ``ValueError`` where they do not fit each other."""
    like, whole = None, True
    for chunk in chunks:
        model.check_origin(chunk)
        kept = (chunk.grid[1:], chunk.spatial_tile)
        if like not in (None, kept):
            raise ValueError("the chunks need one grid of patches and one spatial tile")
        if not whole or (chunk.first_frame and like is not None):
            raise ValueError("only the last of the chunks may end inside a latent step, and none may begin inside")
        like, whole = kept, frame_count(chunk) == chunk.grid[0] * STEP - chunk.first_frame
        yield from _steps_of(chunk)


def _decode_steps(
    model: TokenizerNet, like: Tokens | TokenFile, steps: Iterator[_Step], floats: bool = False
) -> Iterator[_Frames]:
    """The wanted frames of the latent steps, decoded tile by tile; see ``windows.decode_frames``."""
    memories: list[TileMemory | None] = []
    while tile := list(islice(steps, model.config.decoder_tile)):
        frames = _decode_tile(model, [step.latents for step in tile], like, memories, floats)
        times = [time for step in tile for time in step.times]
        if times:
            first = next(index * STEP + step.first for index, step in enumerate(tile) if step.times)
            yield frames[first : first + len(times)], times


def _decode_tile(
    model: TokenizerNet, steps: list[Tensor], like: Tokens | TokenFile, memories: list[TileMemory | None], floats: bool
) -> Tensor:
    """Frames [4 * steps, H, W, 3] of one decoder tile; each batch of its windows has a memory of its own."""

    def network(packed: Packed, number: int) -> Tensor:
        if number == len(memories):
            memories.append(model.tile_memory())
        return model.decode_tile(packed, memories[number])

    header = like.header if isinstance(like, TokenFile) else like
    with torch.no_grad():
        return windows.decode_frames(
            model, network, torch.cat(steps), header, floats=floats, most_steps=model.config.decoder_tile
        )
