"""Sources to tokens and back: one module for each modality, and the choice between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..media.kinds import modality_of
from ..media.pixels import limits, to_array, to_range
from ..tokens.tokens import Tokens
from . import assets, images, videos
from .arrays import sources_of
from .windows import TOKEN_BUDGET

if TYPE_CHECKING:
    from ..tokenizer.net import TokenizerNet


@dataclass(frozen=True)
class EncodeOptions:
    """How to read sources and what to make of them; see ``AToken.encode``."""

    kind: str
    value_range: tuple[float, float] | None = None
    layout: str | None = None
    sample: bool = False
    generator: torch.Generator | None = None
    token_budget: int = TOKEN_BUDGET
    spatial_tile: int | None = None
    """Pixels along a side of the tiles of large pictures and frames; 0: none, None: as the model's config says."""
    moments: bool = False
    """Continuous: mean and log-variance side by side, 2C numbers a token, in place of the mean."""


@dataclass(frozen=True)
class DecodeOptions:
    """What to make of decoded pixels; see ``AToken.decode``."""

    token_budget: int = TOKEN_BUDGET
    as_tensor: bool = False
    value_range: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        limits(self.value_range)

    def picture(self, pixels: Tensor) -> np.ndarray | Tensor:
        """Pixels [3, H, W], floats nominally in [-1, 1] or uint8, as uint8 HWC or as a tensor [3, H, W]."""
        if self.as_tensor:
            return to_range(pixels, self.value_range).contiguous()
        return pixels.permute(1, 2, 0).contiguous().numpy() if pixels.dtype == torch.uint8 else to_array(pixels)

    def clip(self, frames: Tensor) -> np.ndarray | Tensor:
        """Frames [T, H, W, 3], floats nominally in [-1, 1] or uint8, as they are or as a tensor [3, T, H, W]."""
        return to_range(frames.movedim(-1, 0), self.value_range).contiguous() if self.as_tensor else frames.numpy()


_MODULES: dict[str, Any] = {"image": images, "video": videos, "3d": assets}


def listed(sources: Any, options: EncodeOptions, fps: float | None = None) -> tuple[list[Any], bool]:
    """Sources one by one, and whether they are many: those of a list, or what an array is made of (``sources_of``).

    Raises ``ValueError`` for ``fps`` with anything but arrays of frames.
    """
    if isinstance(sources, np.ndarray | Tensor):
        return sources_of(sources, value_range=options.value_range, layout=options.layout, fps=fps)
    many = isinstance(sources, list | tuple)
    items: list[Any] = list(sources) if many else [sources]
    for index, item in enumerate(items):
        if isinstance(item, np.ndarray | Tensor):
            found, batch = sources_of(item, value_range=options.value_range, layout=options.layout, fps=fps)
            if batch:
                raise ValueError(f"an array of shape {list(item.shape)} is a batch: pass it alone, not in a list")
            items[index] = found[0]
        elif fps is not None:
            raise ValueError(f"fps is for arrays of frames, and this is {type(item).__name__}: files know their times")
    return items, many


def stacked(results: Sequence[Any]) -> Tensor:
    """Tensors of one shape as a batch. Raises ``ValueError`` for several shapes and for none."""
    shapes = sorted({tuple(result.shape) for result in results})
    if len(shapes) != 1:
        found = " and ".join(str(list(shape)) for shape in shapes[:3]) or "nothing"
        raise ValueError(f"as_tensor makes one batch of a list, and this is {found}: decode one by one")
    return torch.stack(list(results))


def encode(model: TokenizerNet, sources: Sequence[Any], options: EncodeOptions) -> list[Tokens]:
    """Tokens of each source, neighbours of one modality together."""
    tokens: list[Tokens] = []
    for modality, group in groupby(sources, modality_of):
        tokens += _MODULES[modality].encode(model, list(group), options)
    return tokens


def decode(model: TokenizerNet, tokens: Sequence[Tokens], options: DecodeOptions) -> list[Any]:
    """What each ``Tokens`` stands for, neighbours of one modality together."""
    results: list[Any] = []
    for modality, group in groupby(tokens, lambda item: item.modality):
        results += _MODULES[modality].decode(model, list(group), options)
    return results


def embed(model: TokenizerNet, sources: Sequence[Any], options: EncodeOptions) -> Tensor:
    """Embeddings of the sources, fp32 [B, W] of unit length on the CPU."""
    vectors: list[Tensor] = []
    for modality, group in groupby(sources, modality_of):
        vectors += _MODULES[modality].embed(model, list(group), options)
    return torch.cat(vectors) if vectors else torch.zeros(0, model.config.embed_dim or model.config.width)
