"""Pictures to tokens and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..config import FRAME_FEATURES, PATCH
from ..media.image import read_image
from ..media.patchify import image_to_patches, patches_to_image, to_pixels, to_uint8
from ..tokens import Packed, Tokens
from .quantize import quantize

if TYPE_CHECKING:
    from ..model.tokenizer import AToken
    from . import EncodeOptions


def encode(model: AToken, pictures: Sequence[Any], options: EncodeOptions) -> list[Tokens]:
    """Tokens of each picture."""
    tokens: list[Tokens] = []
    for batch, geometries in _batches(pictures, options):
        values = quantize(model, model.encode_packed(batch, pool=False).posterior, options).split(batch.lengths)
        coords = batch.coords[:, 1:].split(batch.lengths)
        for part, places, geometry in zip(values, coords, geometries, strict=True):
            tokens.append(model.stamp(options.kind, part, places, **geometry))
    return tokens


def decode(model: AToken, tokens: Sequence[Tokens], token_budget: int) -> list[np.ndarray]:
    """The picture of each ``Tokens``, uint8 HWC in its original size."""
    pictures: list[np.ndarray] = []
    for group in budget_batches([len(item) for item in tokens], token_budget):
        items = [tokens[i] for i in group]
        batch = Packed.cat([(item.latents.float(), item.coords) for item in items])
        patches = model.decode_packed(batch, features=FRAME_FEATURES).split(batch.lengths)
        pictures += [to_uint8(patches_to_image(p, item.grid, item.box)) for p, item in zip(patches, items, strict=True)]
    return pictures


def embed(model: AToken, pictures: Sequence[Any], options: EncodeOptions) -> list[Tensor]:
    """Embeddings of the pictures, batches of fp32 [B, W] on the CPU; large ones are seen as ``embed_tokens`` says."""
    batches = _batches(pictures, options, model.config.embed_tokens)
    pooled = (model.encode_packed(batch).pooled for batch, _ in batches)
    return [vectors.cpu() for vectors in pooled if vectors is not None]


def budget_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group neighbouring items into batches of at most ``budget`` tokens; a larger item goes alone."""
    batches: list[list[int]] = []
    used = 0
    for index, length in enumerate(lengths):
        if not batches or used + length > budget:
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


def _batches(
    pictures: Sequence[Any], options: EncodeOptions, tokens: int | None = None
) -> Iterator[tuple[Packed, list[dict[str, Any]]]]:
    """Packed batches of neighbouring pictures within the token budget, each with its geometries.

    With ``tokens`` each picture is scaled down to that many first.
    """
    pending: list[tuple[Tensor, Tensor]] = []
    geometries: list[dict[str, Any]] = []
    for picture in pictures:
        array = picture if isinstance(picture, np.ndarray | Tensor) else read_image(picture)
        pixels = to_pixels(array, value_range=options.value_range, layout=options.layout)
        patches, coords, geometry = image_to_patches(shrink(pixels, tokens) if tokens else pixels)
        if pending and sum(len(p) for p, _ in pending) + len(patches) > options.token_budget:
            yield Packed.cat(pending), geometries
            pending, geometries = [], []
        pending.append((patches, coords))
        geometries.append(geometry)
    if pending:
        yield Packed.cat(pending), geometries
