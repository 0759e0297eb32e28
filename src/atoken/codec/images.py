"""Pictures to tokens and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..media.image.files import read_image
from ..media.patchify import image_to_patches, patches_to_image, to_pixels, to_uint8
from ..nn.packed import Packed, dense_coords
from ..tokens.patch import FRAME_FEATURES, PATCH
from ..tokens.tokens import Tokens
from . import windows
from .quantize import quantize

if TYPE_CHECKING:
    from ..tokenizer.net import TokenizerNet
    from . import EncodeOptions


def encode(model: TokenizerNet, pictures: Sequence[Any], options: EncodeOptions) -> list[Tokens]:
    """Tokens of each picture: small ones in batches, large ones in spatial tiles."""
    tile = windows.wanted_tile(model, options)
    tokens: list[Tokens] = []
    for large, group in groupby(_pixels(pictures, options), lambda pixels: _tile_of(pixels, tile) is not None):
        if large:
            tokens += [_encode_tiled(model, pixels, tile, options) for pixels in group]
            continue
        for batch, geometries in _batches(group, options.token_budget):
            values = quantize(model, model.encode_packed(batch, pool=False).posterior, options).split(batch.lengths)
            coords = batch.coords[:, 1:].split(batch.lengths)
            for part, places, geometry in zip(values, coords, geometries, strict=True):
                tokens.append(model.stamp(options.kind, part, places, **geometry))
    return tokens


def decode(model: TokenizerNet, tokens: Sequence[Tokens], token_budget: int) -> list[np.ndarray]:
    """The picture of each ``Tokens``, uint8 HWC in its original size."""
    pictures: list[np.ndarray] = []
    for tiled, group in groupby(tokens, lambda item: item.spatial_tile is not None):
        if tiled:
            pictures += [_decode_tiled(model, item, token_budget) for item in group]
        else:
            pictures += _decode_whole(model, list(group), token_budget)
    return pictures


def _tile_of(pixels: Tensor, tile: int | None) -> int | None:
    """``tile`` where it cuts the picture, else None."""
    rows, columns = (-(-side // PATCH[1]) for side in pixels.shape[1:])
    return windows.tile_of((1, rows, columns, 1), tile)


def _encode_tiled(model: TokenizerNet, pixels: Tensor, tile: int | None, options: EncodeOptions) -> Tokens:
    size = (pixels.shape[1], pixels.shape[2])
    grid = (1, -(-size[0] // PATCH[1]), -(-size[1] // PATCH[2]), 1)

    def patches_of(window: windows.Window) -> Tensor:
        rows = slice(window.top * PATCH[1], window.bottom * PATCH[1])
        columns = slice(window.left * PATCH[2], window.right * PATCH[2])
        return image_to_patches(pixels[:, rows, columns])[0]

    values = windows.encode_windows(model, grid, tile, patches_of, options)
    geometry = {"grid": grid, "size": size, "box": (0, 0, *size), "spatial_tile": tile}
    return model.stamp(options.kind, values, dense_coords(grid), **geometry)


def _decode_whole(model: TokenizerNet, tokens: Sequence[Tokens], token_budget: int) -> list[np.ndarray]:
    pictures: list[np.ndarray] = []
    for group in budget_batches([len(item) for item in tokens], token_budget):
        items = [tokens[i] for i in group]
        batch = Packed.cat([(item.latents.float(), item.coords) for item in items])
        patches = model.decode_packed(batch, features=FRAME_FEATURES).split(batch.lengths)
        pictures += [to_uint8(patches_to_image(p, item.grid, item.box)) for p, item in zip(patches, items, strict=True)]
    return pictures


def _decode_tiled(model: TokenizerNet, item: Tokens, token_budget: int) -> np.ndarray:
    _, rows, columns, _ = item.grid
    canvas = np.empty((rows * PATCH[1], columns * PATCH[2], 3), np.uint8)

    def network(packed: Packed, _: int) -> Tensor:
        return model.decode_packed(packed, features=FRAME_FEATURES)

    parts = windows.decode_windows(model, network, item.latents.float(), item.grid, item.spatial_tile, token_budget)
    for window, patches in parts:
        height, width = window.shape[0] * PATCH[1], window.shape[1] * PATCH[2]
        picture = to_uint8(patches_to_image(patches, (1, *window.shape, 1), (0, 0, height, width)))
        top, left = window.top * PATCH[1], window.left * PATCH[2]
        canvas[top : top + height, left : left + width] = picture
    top, left, height, width = item.box
    return np.ascontiguousarray(canvas[top : top + height, left : left + width])


def embed(model: TokenizerNet, pictures: Sequence[Any], options: EncodeOptions) -> list[Tensor]:
    """Embeddings of the pictures, batches of fp32 [B, W] on the CPU; large ones are seen as ``embed_tokens`` says."""
    most = model.config.embed_tokens
    pixels = (shrink(picture, most) if most else picture for picture in _pixels(pictures, options))
    pooled = (model.encode_packed(batch).pooled for batch, _ in _batches(pixels, options.token_budget))
    return [vectors.cpu() for vectors in pooled if vectors is not None]


def budget_batches(lengths: Iterable[int], budget: int, most: int | None = None) -> list[list[int]]:
    """Group neighbours into batches of at most ``budget`` tokens and ``most`` items; a larger item goes alone."""
    batches: list[list[int]] = []
    used = 0
    for index, length in enumerate(lengths):
        if not batches or used + length > budget or len(batches[-1]) == most:
            batches.append([])
            used = 0
        batches[-1].append(index)
        used += length
    return batches


def shrink(pixels: Tensor, tokens: int) -> Tensor:
    """Pixels [3, H, W] of a picture of any shape, scaled down to at most ``tokens`` whole patches where it has more."""
    height, width = pixels.shape[1:]
    scale = (tokens * PATCH[1] * PATCH[2] / (height * width)) ** 0.5
    if scale >= 1:
        return pixels
    size = [min(max(int(side * scale) // PATCH[1], 1), tokens) * PATCH[1] for side in (height, width)]
    return F.interpolate(pixels[None], size, mode="bilinear", align_corners=False, antialias=True)[0]


def _pixels(pictures: Iterable[Any], options: EncodeOptions) -> Iterator[Tensor]:
    """Each picture as pixels [3, H, W] in [-1, 1], read when its turn comes."""
    for picture in pictures:
        array = picture if isinstance(picture, np.ndarray | Tensor) else read_image(picture)
        yield to_pixels(array, value_range=options.value_range, layout=options.layout)


def _batches(pictures: Iterable[Tensor], budget: int) -> Iterator[tuple[Packed, list[dict[str, Any]]]]:
    """Packed batches of neighbouring pictures within the token budget, each with its geometries."""
    pending: list[tuple[Tensor, Tensor]] = []
    geometries: list[dict[str, Any]] = []
    for pixels in pictures:
        patches, coords, geometry = image_to_patches(pixels)
        if pending and sum(len(p) for p, _ in pending) + len(patches) > budget:
            yield Packed.cat(pending), geometries
            pending, geometries = [], []
        pending.append((patches, coords))
        geometries.append(geometry)
    if pending:
        yield Packed.cat(pending), geometries
