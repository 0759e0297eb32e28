"""What a run consists of between two steps: begun anew, or as its last checkpoint holds it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data.feeds import Feed
from .checkpoints import Checkpoints, Progress, Stored
from .ema import EMA
from .optimizer import build_optimizers
from .protocol import TrainSpec
from .ranks import Ranks, parallelize


@dataclass(frozen=True, eq=False)
class RunState:
    """The parts that a step changes, and the feeds that it reads."""

    module: nn.Module
    parallel: nn.Module
    """What is called in place of ``module``."""
    optimizers: dict[str, torch.optim.Optimizer]
    ema: EMA
    feeds: dict[str, Feed[Any]]
    progress: Progress
    checkpoints: Checkpoints

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that learn."""
        return [parameter for parameter in self.module.parameters() if parameter.requires_grad]

    def save(self, spec: TrainSpec) -> None:
        """Write a checkpoint; every rank must call it."""
        self.checkpoints.save(self.progress, spec.describe(self.module), self.module, self.ema, self.optimizers)


def begin(spec: TrainSpec, out: Path, ranks: Ranks) -> RunState:
    """The state before the first step, or that of the last whole checkpoint under ``out`` without another start.

    Raises ``ValueError`` or ``OSError`` where something is missing, damaged or another run's; on all ranks.
    """
    config = spec.config
    checkpoints = Checkpoints(out / "checkpoints", config.log.keep, ranks)
    stored = checkpoints.newest()
    progress = stored.progress if stored else Progress(cursors=[{}] * ranks.world)
    cursors = progress.cursors[ranks.rank] if len(progress.cursors) == ranks.world else progress.cursors[0]
    progress.cursors = [dict(cursors) for _ in range(ranks.world)]
    with ranks.together():
        feeds = {task.task: spec.build_feed(task, ranks, cursors.get(task.task)) for task in config.tasks}
        module = _module(spec, stored, ranks)
    parallel = parallelize(module, spec.blocks(module), config.parallel, ranks, spec.forward_methods)
    fused = ranks.device.startswith("cuda") and ranks.world == 1
    optimizers = build_optimizers(spec.parameter_groups(module), config.optimizer, fused)
    ema = EMA(module, config.optimizer.ema)
    if stored:
        checkpoints.load(stored, module, ema, optimizers)
    return RunState(module, parallel, optimizers, ema, feeds, progress, checkpoints)


def _module(spec: TrainSpec, stored: Stored | None, ranks: Ranks) -> nn.Module:
    """The module before the first step, or one for the checkpoint's weights."""
    torch.manual_seed(spec.config.seed)
    if stored is None:
        module = spec.start(ranks)
    else:
        with stored.naming():
            module = spec.build(ranks, stored.model)
    return module.to(ranks.device).train()
