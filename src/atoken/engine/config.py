"""What every training run says: tasks, length, optimizer, parallelism and log."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..data.config import TurnConfig


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW on everything, or Muon on the matrices of the blocks and AdamW on the rest; and the schedule of both."""

    lr: float = 3e-4
    """Full learning rate of AdamW."""
    muon_lr: float | None = None
    """Full learning rate of Muon; None: AdamW alone."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    """On matrices; never on norms, biases and position tables."""
    warmup: int = 2000
    """Steps of linear warm-up."""
    schedule: str = "cosine"
    """After the warm-up: "cosine" to the end, or "linear": constant, then straight down over ``decay`` steps."""
    final: float = 0.1
    """Share of the full rate at the end (3e-4 to 3e-5 in the paper)."""
    decay: int = 0
    """Steps of the fall, for the linear schedule."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.9999
    most_skipped: int = 50
    """Steps without a finite gradient that a run survives; they change nothing but this count."""

    def __post_init__(self) -> None:
        if self.schedule not in ("cosine", "linear"):
            raise ValueError(f"train config: schedule is {self.schedule!r}: give cosine or linear")
        for name in ("lr", "muon_lr", "weight_decay", "warmup", "decay", "final", "most_skipped"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"train config: {name} of the optimizer must be 0 or more, not {value}")
        if not self.clip > 0:
            raise ValueError(f"train config: clip must be positive, not {self.clip}")
        if not all(0 <= share < 1 for share in (*self.betas, self.ema)):
            raise ValueError("train config: betas and ema must lie between 0 and 1")


@dataclass(frozen=True)
class ParallelConfig:
    """How a step is computed; none of it changes what is computed, but for rounding."""

    strategy: str = "ddp"
    """Among several ranks: "ddp" (each holds everything) or "fsdp" (weights, gradients and averages are sharded)."""
    autocast: bool = True
    """bf16 matrix products."""
    checkpointing: bool = False
    """Activation checkpointing of the blocks."""
    compile: bool = False
    """torch.compile of the blocks."""
    graphs: bool = False
    """Steps of one batch as CUDA graphs, on one card, for the batches that allow it (``TrainSpec.capture``): a small
    model's kernels are so short that launching them takes longer. Does nothing on the CPU."""

    def __post_init__(self) -> None:
        if self.strategy not in ("ddp", "fsdp"):
            raise ValueError(f"train config: strategy is {self.strategy!r}: give ddp or fsdp")


@dataclass(frozen=True)
class LogConfig:
    """What is written down, and how often (in steps)."""

    every: int = 50
    checkpoint_every: int = 500
    keep: int = 2
    """Checkpoints that stay, 2 or more: where the newest is damaged, the run goes on from the one before."""
    tensorboard: bool = True
    wandb: str | None = None
    """Project on Weights & Biases, for those who have it."""

    def __post_init__(self) -> None:
        if min(self.every, self.checkpoint_every) < 1:
            raise ValueError("train config: every and checkpoint_every of the log must be positive")
        if self.keep < 2:
            raise ValueError(f"train config: keep of the log is {self.keep}: 2 or more checkpoints must stay")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A training run; recipes of a model inherit from it."""

    tasks: tuple[TurnConfig, ...]
    steps: int = 0
    minutes: float = 0.0
    """In place of ``steps``: as many as take so long on the machine that begins the run, evaluation and checkpoints not
    counted (engine/timing.py)."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    log: LogConfig = field(default_factory=LogConfig)
    ranks: int = 1
    """Processes that the token budgets are meant for; only the dry run reads it."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not any(task.ratio for task in self.tasks):
            raise ValueError("train config: at least one task needs a ratio")
        if len({task.task for task in self.tasks}) != len(self.tasks):
            raise ValueError("train config: each task may stand there once")
        if self.parallel.strategy == "fsdp" and self.optimizer.muon_lr is not None:
            raise ValueError("train config: muon needs whole matrices: take strategy: ddp, or leave muon_lr out")
        if self.ranks < 1 or self.seed < 0:
            raise ValueError("train config: ranks must be positive, and seed not negative")
        if (
            min(self.steps, self.minutes) < 0
            or not math.isfinite(self.minutes)
            or bool(self.steps) == bool(self.minutes)
        ):
            raise ValueError("train config: give either steps or minutes, as a positive number")
        down = self.optimizer.decay if self.optimizer.schedule == "linear" else 0
        if self.steps and self.optimizer.warmup + down > self.steps:
            raise ValueError(
                f"train config: warmup and decay together, {self.optimizer.warmup + down} steps, are longer than the "
                f"run of {self.steps}"
            )
