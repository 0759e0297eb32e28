"""Batches of tokens out of shards, for trainers: packed by a budget, shuffled by a seed, by rank and worker."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from ..core.batching import within_budget
from ..core.errors import ReadError
from ..core.text import shortened
from ..tokens.samples import TokenSample
from ..tokens.shards import TokenShards

NO_LABEL = -1


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """The tokens of B samples one after the other, N together, without padding."""

    values: Tensor
    """Latents, float [N, C] in the dtype of the shards, or codes, uint16 [N, G]."""
    coords: Tensor
    """int32 [N, 5] = (sample, t, x, y, z)."""
    samples: tuple[TokenSample, ...]
    """What the tokens belong to, in order: headers, captions, further tensors."""
    cursor: dict[str, Any]
    """Where the stream stands after this batch; plain numbers, the same on all ranks."""
    damaged: int = 0
    """Samples that belong to it and could not be read."""

    def pinned(self) -> TokenBatch:
        """The same batch with values and coords in pinned memory."""
        return replace(self, values=self.values.pin_memory(), coords=self.coords.pin_memory())

    pin_memory = pinned  # what a DataLoader with pin_memory=True calls

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sample."""
        return [len(sample.tokens) for sample in self.samples]

    @property
    def labels(self) -> Tensor:
        """int64 [B]; -1 where there is none."""
        return torch.tensor([NO_LABEL if sample.label is None else sample.label for sample in self.samples])

    @property
    def captions(self) -> list[tuple[str, ...]]:
        """The captions of each sample, none or several."""
        return [sample.captions for sample in self.samples]


def pack_tokens(samples: Sequence[TokenSample], cursor: Mapping[str, Any] | None = None) -> TokenBatch:
    """Join samples of any modality and size: a ``collate_fn`` for ``TokenShards``.

    Raises ``ValueError`` that names two of them where one has latents and the other codes, or other latents.
    """
    first = samples[0]
    for sample in samples:
        like, found = first.tokens.values, sample.tokens.values
        if (like.dtype, like.shape[1]) != (found.dtype, found.shape[1]):
            one, other = (
                f"{shortened(each.key)} ({each.tokens.values.dtype}, {each.tokens.values.shape[1]} wide)"
                for each in (first, sample)
            )
            raise ValueError(f"samples {one} and {other} do not go into one batch: keep them in shards of their own")
    number = torch.arange(len(samples), dtype=torch.int32)
    owner = number.repeat_interleave(torch.tensor([len(sample.tokens) for sample in samples]))
    coords = torch.cat([sample.tokens.coords for sample in samples])
    values = _cat([sample.tokens.values for sample in samples])
    return TokenBatch(values, torch.cat([owner[:, None], coords], 1), tuple(samples), dict(cursor or {}))


def _cat(parts: Sequence[Tensor]) -> Tensor:
    """``torch.cat``, of uint16 too."""
    if parts[0].dtype != torch.uint16:
        return torch.cat(list(parts))
    return torch.cat([part.view(torch.int16) for part in parts]).view(torch.uint16)


class TokenBatches(IterableDataset[TokenBatch]):
    """Batches of at most ``tokens`` tokens and ``samples`` samples, for ``epochs`` epochs or for ever.

    Give it to ``DataLoader(batches, batch_size=None, num_workers=...)``. What the batches of an epoch hold is planned
    from the seed and the headers of the shards: every sample is in one of them. They go to the ranks in turn, and those
    that are too few for all ranks at the end of an epoch are left out. Any number of worker processes gives the same
    order. A sample that is damaged is left out with a warning that names it, and counted in ``damaged`` of its batch.

    ``cursor`` is that of the last batch that was used: the stream goes on after it, with another number of ranks or
    workers, too. Raises ``ValueError`` for a sample of more than ``tokens``, for fewer batches than ranks, and for a
    cursor of another stream.
    """

    def __init__(
        self,
        shards: TokenShards,
        tokens: int,
        *,
        samples: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        epochs: int | None = None,
        cursor: Mapping[str, Any] | None = None,
    ) -> None:
        if not 0 <= rank < world or tokens < 1 or (samples is not None and samples < 1):
            raise ValueError(f"rank {rank} of {world} with {tokens} tokens and {samples} samples in a batch cannot be")
        longest = max(range(len(shards)), key=lambda number: shards.lengths[number])
        if shards.lengths[longest] > tokens:
            raise ValueError(
                f"sample {shortened(shards.key(longest))} has {shards.lengths[longest]} tokens, and a batch at most "
                f"{tokens}: raise that or keep such samples in shards of their own"
            )
        self.shards, self.rank, self.world, self.epochs = shards, rank, world, epochs
        self.tokens, self.samples, self.shuffle, self.seed = tokens, samples, shuffle, seed
        self.facts = {"tokens": tokens, "samples": samples, "shuffle": shuffle, "seed": seed, "of": len(shards)}
        self.epoch, self.start = self._place(cursor) if cursor else (0, 0)
        if len(self.plan(0)) < world:
            raise ValueError(f"{len(self.plan(0))} batches an epoch are too few for {world} ranks: make them smaller")

    def _place(self, cursor: Mapping[str, Any]) -> tuple[int, int]:
        """Epoch and batch of a cursor. Raises ``ValueError``."""
        for name, value in self.facts.items():
            if name not in cursor or cursor[name] != value:
                raise ValueError(f"the cursor is that of a stream with {name} {cursor.get(name)}, and this has {value}")
        epoch, batch = cursor.get("epoch"), cursor.get("batch")
        if type(epoch) is not int or type(batch) is not int or min(epoch, batch) < 0:
            raise ValueError(f"the cursor stands at epoch {epoch}, batch {batch}: counts must be 0 or more")
        return epoch, batch

    def plan(self, epoch: int) -> list[list[int]]:
        """The numbers of the samples of each batch of an epoch, for all ranks."""
        order = np.arange(len(self.shards))
        if self.shuffle:
            order = np.random.default_rng((self.seed, epoch)).permutation(len(order))
        batches = within_budget(order.tolist(), self.shards.lengths.__getitem__, self.tokens, self.samples)
        return [list(batch) for batch in batches]

    def __iter__(self) -> Iterator[TokenBatch]:
        worker = get_worker_info()
        turn, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for number, (batch, cursor) in enumerate(self._own()):
            if number % workers == turn:
                yield self._read(batch, cursor)

    def _read(self, batch: Sequence[int], cursor: Mapping[str, Any]) -> TokenBatch:
        """Raises ``ReadError`` where all samples of the batch are damaged."""
        samples, errors = [], []
        for place in batch:
            try:
                samples.append(self.shards[place])
            except ReadError as error:
                errors.append(error)
        if not samples:
            raise errors[0]  # ranks in step need a batch of each
        for damage in errors:
            warnings.warn(f"{damage}: left out", stacklevel=2)
        return replace(pack_tokens(samples, cursor), damaged=len(errors))

    def _own(self) -> Iterator[tuple[list[int], dict[str, Any]]]:
        """The batches of this rank, each with the cursor after it."""
        start = self.start
        for epoch in count(self.epoch):
            if self.epochs is not None and epoch >= self.epochs:
                return
            plan = self.plan(epoch)
            for first in range(start, len(plan) - self.world + 1, self.world):
                yield plan[first + self.rank], {**self.facts, "epoch": epoch, "batch": first + self.world}
            start = 0
