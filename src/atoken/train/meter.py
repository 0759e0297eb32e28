"""Means of what happened since the last record: terms, speed, and MFU (train/flops.py)."""

from __future__ import annotations

import time
from collections import defaultdict

import torch
from torch import Tensor

from ..data.batch import Batch
from ..nn.layout import tile_of
from ..tokenizer.config import ModelConfig
from .config import HEAD_ALONE
from .distributed import Ranks
from .flops import device_peak, training_flops


class Meter:
    """Collects steps until ``read``."""

    def __init__(self, config: ModelConfig, ranks: Ranks, autocast: bool) -> None:
        self.config, self.ranks = config, ranks
        self.peak = device_peak(ranks.device, autocast)
        self.restart()

    def restart(self) -> None:
        """Forget everything and start the clock."""
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, float] = defaultdict(float)
        self.tokens, self.flops, self.clock = 0, 0.0, time.perf_counter()

    def add(self, task: str, terms: dict[str, Tensor], share: float, batch: Batch) -> None:
        """Count one batch with its weighted terms."""
        for term, value in terms.items():
            name = f"{task}/{term}"
            self._sums[name] = self._sums.get(name, 0) + share * value.detach()
            self._counts[name] += share
        self.tokens += len(batch.packed.coords)
        if task == HEAD_ALONE:  # what is decoded once and kept; the head itself is small
            return
        tiles, _ = tile_of(batch.packed.coords, self.config.encoder_tile)
        segments = torch.bincount(batch.packed.coords[:, 0].long() * (int(tiles.max()) + 1) + tiles).tolist()
        features = batch.packed.feats.shape[1]
        self.flops += training_flops(self.config, segments, features, decode=task.endswith("reconstruction"))

    def read(self) -> dict[str, float]:
        """Mean of each weighted term over the batches of all ranks that have it, tokens a second over all ranks, and
        MFU."""
        seconds = time.perf_counter() - self.clock
        own = {name: float(value) for name, value in self._sums.items()}
        names = sorted({name for known in self.ranks.gather(list(own)) for name in known})
        sums = self.ranks.mean([own.get(name, 0.0) for name in names])
        counts = self.ranks.mean([self._counts[name] for name in names])
        tokens, flops = self.ranks.mean([float(self.tokens), self.flops])
        self.restart()
        return {
            **{name: total / count for name, total, count in zip(names, sums, counts, strict=True)},
            "tokens_per_s": round(tokens * self.ranks.world / seconds),
            "mfu": round(flops / seconds / self.peak, 4),
        }
