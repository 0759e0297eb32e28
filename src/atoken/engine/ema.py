"""Exponential moving average of the trained weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .foreach import foreach, local


class EMA:
    """Exponential moving average of a module's trainable parameters; sharded where they are."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.current = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
        self.values = {name: parameter.detach().clone() for name, parameter in self.current.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after ``step``. Warm-up: the decay is at most (1 + step) / (10 + step)."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        foreach("lerp_", local(self.values.values()), local(self.current.values()), weight)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the module has the averaged weights."""
        kept = {name: parameter.detach().clone() for name, parameter in self.current.items()}
        self._put(self.values)
        try:
            yield
        finally:
            self._put(kept)

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        foreach("copy_", local(self.current.values()), local(values[name] for name in self.current))
