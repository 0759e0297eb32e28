"""What the engine asks of whatever is trained on it (docs/training.md, *Something else than the tokenizer*)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..data.feeds import Feed
from .config import RunConfig
from .ema import EMA
from .logger import Logger
from .optimizer import ParameterGroup, blocks_of, default_groups
from .ranks import Ranks

Terms = dict[str, Tensor]
"""Terms of a loss by name, each a scalar."""


@dataclass(frozen=True, eq=False)
class Capture:
    """How the passes of a batch become a CUDA graph, which all batches of the same ``key`` share."""

    key: bytes
    """Of all that the kernels depend on but the values of ``inputs``, such as shapes and positions."""
    inputs: Sequence[Tensor]
    """The tensors of this batch that differ from those of another one of the same key."""
    prepare: Callable[[Sequence[Tensor]], Callable[[], Terms]]
    """From ``inputs`` at their fixed places on the device to a function that computes unweighted terms of them, and
    that waits for no device."""


class TrainSpec(ABC):
    """One model's training.

    The module that it builds is wrapped, optimised and saved; ``module(task, batch)`` returns the unweighted terms of a
    batch. What it draws at random comes from torch's global generators, which the engine seeds for each step and rank,
    or from generators of its own: then a continued run computes what an uninterrupted one does.
    """

    config: RunConfig
    forward_methods: tuple[str, ...] = ()
    """Methods of the module besides ``forward`` that compute with its weights, for FSDP."""

    @abstractmethod
    def build(self, ranks: Ranks, stored: dict[str, Any] | None = None) -> nn.Module:
        """The module with random weights: the recipe's, or that of a checkpoint that ``describe`` has written.

        Raises ``ValueError`` where the recipe does not fit ``stored``.
        """

    @abstractmethod
    def build_feed(
        self, task: Any, ranks: Ranks, cursor: dict[str, Any] | None = None, *, workers: bool = True
    ) -> Feed[Any]:
        """The batches of one of the config's tasks on one rank, going on from the ``cursor`` of its last batch.

        Without ``workers`` they are made where they are asked for.
        """

    @abstractmethod
    def export(self, module: Any, state: dict[str, Tensor], folder: Path) -> Any:
        """Write the trained model of ``state``, the averaged weights on the CPU, and return it; on the first rank."""

    def start(self, ranks: Ranks) -> nn.Module:
        """The module before the first step; not called where a run continues."""
        return self.build(ranks)

    def describe(self, module: Any) -> dict[str, Any]:
        """What ``build`` needs to build the module of a checkpoint, as JSON-ready values."""
        return {}

    def weights(self, module: Any, task: str) -> Mapping[str, float]:
        """The weight of each term; none: each counts 1."""
        return {}

    def parameter_groups(self, module: Any) -> list[ParameterGroup]:
        """All parameters that are trained."""
        return default_groups(module, self.config.optimizer)

    def blocks(self, module: Any) -> list[nn.Module]:
        """Parts that are compiled, recomputed and sharded each by itself."""
        return blocks_of(module)

    def cost(self, module: Any, task: str, batch: Any) -> tuple[int, float]:
        """Tokens of a batch, and floating-point operations of its forward and backward pass, for the log."""
        return 0, 0.0

    def capture(self, module: Any, task: str, batch: Any) -> Capture | None:
        """How the passes of a batch become a CUDA graph; None: they do not."""
        return None

    def preview(self, step: int, module: Any, ema: EMA, logger: Logger) -> None:
        """Record samples or scores; before the first step and with every checkpoint, on every rank."""
        return
