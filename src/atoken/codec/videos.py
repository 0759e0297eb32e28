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

from ..media.patchify import frames_to_patches, patches_to_frames
from ..media.video.frames import Clip, Frame, tiles
from ..media.video.source import open_video
from ..nn.packed import Packed, dense_coords
from ..tokens.patch import PATCH
from ..tokens.stream import TokenFile
from ..tokens.tokens import Tokens
from . import windows

if TYPE_CHECKING:
    from ..nn.cache import TileMemory
    from ..tokenizer.net import TokenizerNet
    from . import EncodeOptions

STEP = PATCH[0]
"""Frames of one latent step."""


def encode_stream(model: TokenizerNet, source: Any, options: EncodeOptions) -> Iterator[Tokens]:
    """Tokens of each tile of a video, each complete in itself, its time counting from 0."""
    wanted = windows.wanted_tile(model, options)
    for frames in tiles(frames_of(source), model.config.encoder_tile * STEP):
        yield _encode_tile(model, frames, wanted, options)  # a function's own tensors are gone before the next tile


def _encode_tile(model: TokenizerNet, frames: list[Frame], wanted: int | None, options: EncodeOptions) -> Tokens:
    height, width = size = frames[0].pixels.shape[:2]
    grid = (-(-len(frames) // STEP), -(-height // PATCH[1]), -(-width // PATCH[2]), 1)
    tile = windows.tile_of(grid, wanted)

    def patches_of(window: windows.Window) -> Tensor:
        rows = slice(window.top * PATCH[1], window.bottom * PATCH[1])
        columns = slice(window.left * PATCH[2], window.right * PATCH[2])
        return frames_to_patches(np.stack([frame.pixels[rows, columns] for frame in frames]))[0]

    with torch.no_grad():
        values = windows.encode_windows(model, grid, tile, patches_of, options)
    return model.stamp(
        options.kind,
        values,
        dense_coords(grid),
        grid=grid,
        size=size,
        box=(0, 0, *size),
        modality="video",
        times=torch.tensor([frame.time for frame in frames], dtype=torch.float64),
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
        yield from _decode_stored(model, source)
        return
    chunks = iter(source)
    first = next(chunks, None)
    if first is None:
        raise ValueError("there are no tokens to decode")
    yield from _decode_steps(model, first, _steps_of_chunks(model, chain([first], chunks)))


def decode(model: TokenizerNet, tokens: Sequence[Tokens], token_budget: int) -> list[np.ndarray]:
    """The frames of each video, uint8 [T, H, W, 3] in its original size; always one tile at a time."""
    return [np.concatenate([clip.frames for clip in decode_stream(model, item)]) for item in tokens]


def embed(model: TokenizerNet, videos: Sequence[Any], options: EncodeOptions) -> list[Tensor]:
    """Embeddings of the videos, each fp32 [1, W]; the pooling reads the tokens of all tiles, so these are in memory."""
    vectors = []
    for video in videos:
        parts = tiles(frames_of(video), model.config.encoder_tile * STEP)
        hidden = torch.cat([_hidden(model, frames) for frames in parts])
        sample = torch.zeros(len(hidden), dtype=torch.int64, device=hidden.device)
        vectors.append(model.encoder.head(hidden, sample).cpu())
    return vectors


def _hidden(model: TokenizerNet, frames: list[Frame]) -> Tensor:
    patches, coords, _ = frames_to_patches(np.stack([frame.pixels for frame in frames]))
    return model.encode_packed(Packed.cat([(patches, coords)]), pool=False).hidden


def frames_of(source: Any) -> Iterable[Frame]:
    """A path, ``Clip``, ``Video`` or other iterable of ``Frame`` as frames. Raises ``ValueError`` for a bare array."""
    if isinstance(source, str | os.PathLike):
        return open_video(source)
    if isinstance(source, np.ndarray | Tensor):
        if 0 in source.shape:
            raise ValueError(f"the array is empty: its shape is {list(source.shape)}")
        raise ValueError("an array of frames does not say when they are shown: pass atoken.Clip(array, fps=...)")
    return source


class _Step(NamedTuple):
    """One latent step, and the frames of it that are wanted."""

    latents: Tensor
    """float [rows * columns, C]."""
    first: int
    """Place of the first wanted frame among its four."""
    times: list[float]
    """When the wanted ones are shown, in seconds."""


def _decode_stored(model: TokenizerNet, tokens: Tokens | TokenFile) -> Iterator[Clip]:
    """Only the tiles that hold wanted frames; with a cache also those before them."""
    model.check_origin(tokens)
    count, start, tile = frame_count(tokens), tokens.first_frame, model.config.decoder_tile
    first = 0 if model.config.decoder_cache else start // (STEP * tile) * tile
    end = -(-(start + count) // (STEP * tile)) * tile
    yield from _decode_steps(model, tokens, islice(_steps_of(tokens, first), end - first))


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


def _decode_steps(model: TokenizerNet, like: Tokens | TokenFile, steps: Iterator[_Step]) -> Iterator[Clip]:
    """The wanted frames of the latent steps, decoded tile by tile."""
    memories: list[TileMemory | None] = []
    while tile := list(islice(steps, model.config.decoder_tile)):
        frames = _decode_tile(model, [step.latents for step in tile], like, memories)
        times = [time for step in tile for time in step.times]
        if times:
            first = next(index * STEP + step.first for index, step in enumerate(tile) if step.times)
            yield Clip(frames[first : first + len(times)], times=times)


def _decode_tile(
    model: TokenizerNet, steps: list[Tensor], like: Tokens | TokenFile, memories: list[TileMemory | None]
) -> np.ndarray:
    """Frames uint8 [4 * steps, H, W, 3] of one decoder tile; each batch of its windows has a memory of its own."""
    _, rows, columns, _ = like.grid
    grid = (len(steps), rows, columns, 1)
    canvas = np.empty((len(steps) * STEP, rows * PATCH[1], columns * PATCH[2], 3), np.uint8)

    def network(packed: Packed, number: int) -> Tensor:
        if number == len(memories):
            memories.append(model.tile_memory())
        return model.decode_tile(packed, memories[number])

    with torch.no_grad():
        parts = windows.decode_windows(
            model, network, torch.cat(steps), grid, like.spatial_tile, most_steps=model.config.decoder_tile
        )
        for window, patches in parts:
            height, width = window.shape[0] * PATCH[1], window.shape[1] * PATCH[2]
            top, left = window.top * PATCH[1], window.left * PATCH[2]
            shown = patches_to_frames(patches, (len(steps), *window.shape, 1), (0, 0, height, width))
            canvas[:, top : top + height, left : left + width] = shown
    top, left, height, width = like.box
    return np.ascontiguousarray(canvas[:, top : top + height, left : left + width])
