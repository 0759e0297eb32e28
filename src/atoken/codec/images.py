"""Pictures to tokens and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..core.batching import within_budget
from ..media.image.files import read_image
from ..media.patchify import image_to_patches, patches_to_image
from ..media.pixels import to_pixels
from ..nn.packed import Packed, dense_coords
from ..tokens.patch import FRAME_FEATURES, PATCH, spatial_tile_of
from ..tokens.tokens import Tokens
from . import windows
from .quantize import quantize

if TYPE_CHECKING:
    from ..tokenizer.net import TokenizerNet
    from . import DecodeOptions, EncodeOptions


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


def decode(model: TokenizerNet, tokens: Sequence[Tokens], options: DecodeOptions) -> list[np.ndarray | Tensor]:
    """The picture of each ``Tokens`` in its original size: uint8 HWC, or fp32 [3, H, W] where the model is."""
    pictures: list[np.ndarray | Tensor] = []
    for tiled, group in groupby(tokens, lambda item: item.spatial_tile is not None):
        if tiled:
            pictures += [_decode_tiled(model, item, options) for item in group]
        else:
            pictures += _decode_whole(model, list(group), options)
    return pictures


def _tile_of(pixels: Tensor, tile: int | None) -> int | None:
    """``tile`` where it cuts the picture, else None."""
    rows, columns = (-(-side // PATCH[1]) for side in pixels.shape[1:])
    return spatial_tile_of((1, rows, columns, 1), tile)


def _encode_tiled(model: TokenizerNet, pixels: Tensor, tile: int | None, options: EncodeOptions) -> Tokens:
    size = (pixels.shape[1], pixels.shape[2])
    grid = (1, -(-size[0] // PATCH[1]), -(-size[1] // PATCH[2]), 1)

    def patches_of(window: windows.Window) -> Tensor:
        vertical, horizontal = window.pixels
        return image_to_patches(pixels[:, vertical, horizontal])[0]

    values = windows.encode_windows(model, grid, tile, patches_of, options)
    geometry = {"grid": grid, "size": size, "box": (0, 0, *size), "spatial_tile": tile}
    return model.stamp(options.kind, values, dense_coords(grid), **geometry)


def _decode_whole(
    model: TokenizerNet, tokens: Sequence[Tokens], options: DecodeOptions
) -> Iterator[np.ndarray | Tensor]:
    for items in within_budget(tokens, len, options.token_budget):
        batch = Packed.cat([(item.latents.float(), item.coords) for item in items])
        patches = model.decode_packed(batch, features=FRAME_FEATURES).split(batch.lengths)
        for part, item in zip(patches, items, strict=True):
            yield options.picture(patches_to_image(part, item.grid, item.box))


def _decode_tiled(model: TokenizerNet, item: Tokens, options: DecodeOptions) -> np.ndarray | Tensor:
    def network(packed: Packed, _: int) -> Tensor:
        return model.decode_packed(packed, features=FRAME_FEATURES)

    frames = windows.decode_frames(
        model, network, item.latents.float(), item, floats=options.as_tensor, budget=options.token_budget
    )
    return options.picture(frames[0].permute(2, 0, 1))


def embed(model: TokenizerNet, pictures: Sequence[Any], options: EncodeOptions) -> list[Tensor]:
    """Embeddings of the pictures, batches of fp32 [B, W] on the CPU; large ones are seen as ``embed_tokens`` says."""
    most = model.config.embed_tokens
    pixels = (shrink(picture, most) if most else picture for picture in _pixels(pictures, options))
    pooled = (model.encode_packed(batch).pooled for batch, _ in _batches(pixels, options.token_budget))
    return [vectors.cpu() for vectors in pooled if vectors is not None]


def features(model: TokenizerNet, pictures: Sequence[Any], block: int, options: EncodeOptions) -> list[Tensor]:
    """Of each picture the encoder's states after so many blocks: [N, W] on the CPU, row by row those of its tokens.

    Raises ``ValueError`` for a picture that is encoded in tiles.
    """
    tile = windows.wanted_tile(model, options)

    def whole(pixels: Tensor) -> Tensor:
        if _tile_of(pixels, tile) is not None:
            raise ValueError(f"features are those of whole pictures, and one of {tile} pixels a side is the largest")
        return pixels

    found: list[Tensor] = []
    for batch, _ in _batches(map(whole, _pixels(pictures, options)), options.token_budget):
        states = model.encode_packed(batch, pool=False, hidden_layers=(block,)).hidden_layers[0]
        found += states.cpu().split(batch.lengths)
    return found


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
    for batch in within_budget(map(image_to_patches, pictures), lambda sample: len(sample[0]), budget):
        yield Packed.cat([(patches, coords) for patches, coords, _ in batch]), [geometry for *_, geometry in batch]
