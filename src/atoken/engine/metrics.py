"""Means of what happened since the last record: terms, speed, and MFU (engine/flops.py)."""

from __future__ import annotations

import time
from collections import defaultdict
from functools import cached_property

from torch import Tensor

from .flops import device_peak
from .ranks import Ranks


class Metrics:
    """Collects steps until ``read``."""

    def __init__(self, ranks: Ranks, autocast: bool) -> None:
        self.ranks, self.autocast = ranks, autocast
        self.restart()

    @cached_property
    def peak(self) -> float:
        """What MFU is a share of."""
        return device_peak(self.ranks.device, self.autocast)

    def restart(self) -> None:
        """Forget everything and start the clock."""
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, float] = defaultdict(float)
        self.tokens, self.flops, self.clock = 0, 0.0, time.perf_counter()

    def add(self, task: str, terms: dict[str, Tensor], share: float, tokens: int, flops: float) -> None:
        """Count one batch with its weighted terms."""
        for term, value in terms.items():
            name = f"{task}/{term}"
            self._sums[name] = self._sums.get(name, 0) + share * value.detach()
            self._counts[name] += share
        self.tokens += tokens
        self.flops += flops

    def read(self) -> dict[str, float]:
        """Mean of each weighted term over the batches of all ranks that have it, and where they are known tokens a
        second over all ranks and MFU."""
        seconds = time.perf_counter() - self.clock
        own = {name: float(value) for name, value in self._sums.items()}
        names = sorted({name for known in self.ranks.gather(list(own)) for name in known})
        sums = self.ranks.mean([own.get(name, 0.0) for name in names])
        counts = self.ranks.mean([self._counts[name] for name in names])
        tokens, flops = self.ranks.mean([float(self.tokens), self.flops])
        values = {name: total / count for name, total, count in zip(names, sums, counts, strict=True)}
        if tokens:
            values["tokens_per_s"] = round(tokens * self.ranks.world / seconds)
        if flops:
            values["mfu"] = round(flops / seconds / self.peak, 4)
        self.restart()
        return values
