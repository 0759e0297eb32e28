"""Sources to tokens and back: one module for each modality, and the choice between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..media.kinds import modality_of
from ..tokens.tokens import Tokens
from . import assets, images, videos
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


_MODULES: dict[str, Any] = {"image": images, "video": videos, "3d": assets}


def encode(model: TokenizerNet, sources: Sequence[Any], options: EncodeOptions) -> list[Tokens]:
    """Tokens of each source, neighbours of one modality together."""
    tokens: list[Tokens] = []
    for modality, group in groupby(sources, modality_of):
        tokens += _MODULES[modality].encode(model, list(group), options)
    return tokens


def decode(model: TokenizerNet, tokens: Sequence[Tokens], token_budget: int) -> list[Any]:
    """What each ``Tokens`` stands for, neighbours of one modality together."""
    results: list[Any] = []
    for modality, group in groupby(tokens, lambda item: item.modality):
        results += _MODULES[modality].decode(model, list(group), token_budget)
    return results


def embed(model: TokenizerNet, sources: Sequence[Any], options: EncodeOptions) -> Tensor:
    """Embeddings of the sources, fp32 [B, W] of unit length on the CPU."""
    vectors: list[Tensor] = []
    for modality, group in groupby(sources, modality_of):
        vectors += _MODULES[modality].embed(model, list(group), options)
    return torch.cat(vectors) if vectors else torch.zeros(0, model.config.embed_dim or model.config.width)
