"""Batches of a generator's training: tokens out of shards, with what the samples are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import ReadError
from ..core.text import shortened
from ..data.tokens import TokenBatch, TokenBatches
from ..language.towers import TextTower
from ..tokens.samples import FEATURES, TokenSample
from ..tokens.shards import TokenShards
from .condition import Condition
from .recipe import TokensConfig

REMEMBERED = 2**28
"""Bytes of captions' states that are kept: small collections show theirs again and again."""


@dataclass(frozen=True)
class Origin:
    """Who made the tokens of some shards."""

    model: str
    weights: str
    channels: int
    """Numbers of a latent, or codes of a token."""
    features: int
    """Numbers of a token's features; 0: there are none."""
    levels: tuple[tuple[int, ...], ...]
    """Levels of quantized numbers, of tokens of kind "discrete"."""

    @classmethod
    def of(cls, sample: TokenSample, kind: str, *, aligned: bool) -> Origin:
        """Of one sample; ``aligned``: features are looked for.

        Raises ``ValueError`` for tokens of another kind, and without features.
        """
        tokens, extra = sample.tokens, sample.extras.get(FEATURES) if aligned else None
        if tokens.kind != kind:
            held = ("latents", "codes") if kind == "discrete" else ("codes", "latents")
            raise ValueError(f"sample {shortened(sample.key)} has {held[0]}, and this generator learns {held[1]}")
        if aligned and (extra is None or extra.ndim != 2 or len(extra) != len(tokens)):
            raise ValueError(
                f"sample {shortened(sample.key)} has no {FEATURES} [{len(tokens)}, F], which the objective aligns with"
            )
        levels = tokens.fsq if kind == "discrete" else ()
        width = 0 if extra is None else extra.shape[1]
        return cls(tokens.model, tokens.weights, tokens.values.shape[1], width, levels)


class CaptionReader:
    """States of captions' tokens, each text read once, as long as all fit into ``REMEMBERED`` bytes."""

    def __init__(self, tower: TextTower) -> None:
        self.tower = tower
        # One block for all: small tensors that stay between large ones that go would keep memory from being used again.
        self._states = torch.empty(REMEMBERED // (4 * tower.state_width), tower.state_width)
        self._known: dict[str, slice] = {}

    def __call__(self, captions: Sequence[str | None]) -> tuple[Tensor, list[int]]:
        """States [M, W] and how many each of B captions has; none, and no tokens, for None."""
        new = list(dict.fromkeys(text for text in captions if text is not None and text not in self._known))
        read = dict(zip(new, self.tower.states(new), strict=True)) if new else {}
        found = read | {text: self._states[self._known[text]] for text in captions if text in self._known}
        empty = torch.empty(0, self.tower.state_width)
        states = [empty if text is None else found[text] for text in captions]
        joined, lengths = torch.cat(states), [len(item) for item in states]
        for text, own in read.items():
            self._remember(text, own)
        return joined, lengths

    def _remember(self, text: str, states: Tensor) -> None:
        used = next(reversed(self._known.values())).stop if self._known else 0
        if used + len(states) > len(self._states):
            self._known.clear()
            used = 0
        if len(states) <= len(self._states):
            self._known[text] = slice(used, used + len(states))
            self._states[self._known[text]] = states


Make = Callable[[TokenBatch, Condition, int], Any]
"""What a net learns from, of tokens, what their samples are told, and a seed."""


class TokenFeed:
    """The batches of one task on one rank, going on from ``cursor``, as ``make`` makes them.

    Seeds, and which of a sample's captions is taken, follow from the recipe's seed and the place in the stream alone.
    Raises ``FileNotFoundError`` and ``ValueError``.
    """

    def __init__(
        self,
        task: TokensConfig,
        shards: TokenShards,
        origin: Origin,
        kind: str,
        make: Make,
        *,
        classes: int,
        reader: CaptionReader | None,
        seed: int,
        rank: int = 0,
        world: int = 1,
        cursor: Mapping[str, Any] | None = None,
    ) -> None:
        self.origin, self.kind, self.make = origin, kind, make
        self.classes, self.reader, self.seed, self.rank = classes, reader, seed, rank
        batches = TokenBatches(
            shards, task.tokens, samples=task.samples, seed=seed, rank=rank, world=world, cursor=cursor
        )
        self._batches: Iterator[TokenBatch] = iter(batches)

    def batch(self, number: int) -> Any:
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
        return self.make(found, condition, int(rng.integers(2**62)))

    def _check(self, sample: TokenSample) -> None:
        origin = Origin.of(sample, self.kind, aligned=bool(self.origin.features))
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
