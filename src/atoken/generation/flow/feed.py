"""Batches of a flow's training: latents out of token shards, with what the samples are told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.errors import ReadError
from ...core.text import shortened
from ...data.tokens import TokenBatch, TokenBatches
from ...language.towers import TextTower
from ...nn.packed import Packed
from ...tokens.samples import TokenSample
from ...tokens.shards import TokenShards
from ..condition import Condition
from ..latents import LatentStats
from .objective import FlowBatch
from .recipe import TokensConfig

FEATURES = "features"
"""Name of the tensor [N, F] of a sample that the objective aligns with."""
MEASURED = 10_000
"""Samples whose latents are measured."""
REMEMBERED = 20_000
"""Captions whose states are kept: small collections show theirs again and again."""


@dataclass(frozen=True)
class Origin:
    """Who made the tokens of some shards."""

    model: str
    weights: str
    channels: int
    features: int
    """Numbers of a token's features; 0: there are none."""

    @classmethod
    def of(cls, sample: TokenSample, *, aligned: bool) -> Origin:
        """Of one sample; ``aligned``: features are looked for. Raises ``ValueError`` for codes and without features."""
        tokens, extra = sample.tokens, sample.extras.get(FEATURES) if aligned else None
        if tokens.kind != "continuous":
            raise ValueError(f"sample {shortened(sample.key)} has codes, and a flow learns latents")
        if aligned and (extra is None or extra.ndim != 2 or len(extra) != len(tokens)):
            raise ValueError(
                f"sample {shortened(sample.key)} has no {FEATURES} [{len(tokens)}, F], which the objective aligns with"
            )
        return cls(tokens.model, tokens.weights, tokens.values.shape[1], 0 if extra is None else extra.shape[1])


def measure(shards: TokenShards, whiten: bool) -> LatentStats:
    """Statistics of the latents of ``MEASURED`` samples, evenly spread."""
    numbers = np.linspace(0, len(shards) - 1, min(MEASURED, len(shards))).round().astype(int)
    return LatentStats.of(torch.cat([shards[int(i)].tokens.latents.float() for i in numbers]), whiten=whiten)


class CaptionReader:
    """States of captions' tokens, each text read once."""

    def __init__(self, tower: TextTower) -> None:
        self.tower = tower
        self._known: dict[str, Tensor] = {}

    def __call__(self, captions: Sequence[str | None]) -> tuple[Tensor, list[int]]:
        """States [M, W] and how many each of B captions has; none, and no tokens, for None."""
        new = list(dict.fromkeys(text for text in captions if text is not None and text not in self._known))
        if len(self._known) + len(new) > REMEMBERED:
            self._known.clear()
            new = list(dict.fromkeys(text for text in captions if text is not None))
        if new:
            self._known |= zip(new, self.tower.states(new), strict=True)
        empty = torch.empty(0, self.tower.state_width)
        states = [empty if text is None else self._known[text] for text in captions]
        return torch.cat(states), [len(item) for item in states]


class FlowFeed:
    """The batches of one task on one rank, going on from ``cursor``.

    Seeds, and which of a sample's captions is taken, follow from the recipe's seed and the place in the stream alone.
    Raises ``FileNotFoundError`` and ``ValueError``.
    """

    def __init__(
        self,
        task: TokensConfig,
        shards: TokenShards,
        origin: Origin,
        *,
        classes: int,
        reader: CaptionReader | None,
        seed: int,
        rank: int = 0,
        world: int = 1,
        cursor: Mapping[str, Any] | None = None,
    ) -> None:
        self.origin, self.classes, self.reader, self.seed, self.rank = origin, classes, reader, seed, rank
        batches = TokenBatches(
            shards, task.tokens, samples=task.samples, seed=seed, rank=rank, world=world, cursor=cursor
        )
        self._batches: Iterator[TokenBatch] = iter(batches)

    def batch(self, number: int) -> FlowBatch:
        """The next batch; ``number`` counts them."""
        found = next(self._batches)
        for sample in found.samples:
            self._check(sample)
        place = (self.seed, self.rank, found.cursor["epoch"], found.cursor["batch"])
        rng = np.random.default_rng(place)
        condition = Condition(
            labels=found.labels if self.classes else None,
            text=None
            if self.reader is None
            else self.reader([_one_of(sample.captions, rng) for sample in found.samples]),
        )
        extras = [sample.extras[FEATURES] for sample in found.samples] if self.origin.features else []
        return FlowBatch(
            Packed(found.values.float(), found.coords),
            condition,
            int(rng.integers(2**62)),
            torch.cat(extras) if extras else None,
            found.cursor,
        )

    def _check(self, sample: TokenSample) -> None:
        origin = Origin.of(sample, aligned=bool(self.origin.features))
        if origin != self.origin:
            raise ReadError(
                f"sample {shortened(sample.key)} is of {shortened(origin.model)!r} with weights {origin.weights[:12]}, "
                f"{origin.channels} channels and {origin.features} features, and others of "
                f"{shortened(self.origin.model)!r} with weights {self.origin.weights[:12]}, {self.origin.channels} and "
                f"{self.origin.features}"
            )
        if self.classes and sample.label is not None and not 0 <= sample.label < self.classes:
            raise ReadError(
                f"sample {shortened(sample.key)} has label {sample.label}: there are {self.classes} classes"
            )


def _one_of(captions: Sequence[str], rng: np.random.Generator) -> str | None:
    return captions[int(rng.integers(len(captions)))] if captions else None
