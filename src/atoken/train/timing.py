"""How long a step takes on this machine: for the dry run, and for recipes that say minutes in place of steps."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import torch

from ..core.errors import ReadError, reading
from ..core.files import atomic_write
from ..data.feeds import build_feed
from ..pipeline.atoken import AToken
from .config import TrainConfig
from .distributed import Ranks
from .learner import Learner
from .optimizer import Average, build_optimizers
from .passes import passes
from .tasks import build_tasks

MINUTES = "minutes.json"
"""In the folder of a run: how many steps its minutes have become, so that a continued run keeps them."""


def seconds_per_step(config: TrainConfig, device: str) -> float:
    """Seconds of a step on one rank, a mean over tasks by their ratios; the second batch of each task is timed.

    Of a model with random weights. Making batches goes on beside the steps and is left out, as are checkpoints,
    evaluation and what ranks say to each other. Raises what ``build_feed`` and ``build_tasks`` raise.
    """
    ranks = Ranks(device=device)
    model = AToken(config.model_config).to(device).train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(config.frozen) if config.frozen else True)
    learner = Learner(model, build_tasks(config, device, model.config)).to(device)
    optimizers, average = build_optimizers(learner, config.optimizer), Average(learner, config.optimizer.ema)
    kind, total = model.device.type, 0.0
    ratios = sum(task.ratio or 0.0 for task in config.tasks)
    for task in config.tasks:
        feed = build_feed(
            replace(task, workers=0, shards=task.shards and replace(task.shards, workers=0)), 0, ranks.rank, ranks.world
        )
        often = task.accumulate * (1.0 if task.ratio is None else task.ratio / ratios)
        for number in range(2):
            batch = feed.batch(number)
            start = _now(kind)
            passes(learner, task.task, 1.0, batch, config, kind)
            seconds = _now(kind) - start
        total += often * seconds
    for _ in range(2):
        start = _now(kind)
        for optimizer in optimizers.values():
            optimizer.step()
        average.update(0)
        seconds = _now(kind) - start
    return total + seconds


def with_steps(config: TrainConfig, out: Path, ranks: Ranks) -> TrainConfig:
    """``config`` with the steps that fit into its ``minutes`` on this machine: timed once, then kept in ``out``.

    Raises ``ReadError`` for a damaged note, and ``ValueError`` where warm-up and decay do not fit into the steps.
    """
    if not config.minutes:
        return config
    path = out / MINUTES
    if path.is_file():
        with reading(path, "delete it, and the steps are timed anew"):
            known = json.loads(path.read_text())
            steps = known["steps"]
            if known["minutes"] != config.minutes or type(steps) is not int or steps < 1:
                raise ReadError(f"{path} is of a run of other minutes: give another --out")
    else:
        seconds = max(ranks.gather(seconds_per_step(config, ranks.device)))
        steps = max(1, int(60 * config.minutes / seconds))
        if ranks.first:
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps({"minutes": config.minutes, "steps": steps}) + "\n")
    ranks.gather(None)  # none looks for the note before it is decided whether there is one
    return replace(config, steps=steps, minutes=0.0)


def _now(kind: str) -> float:
    if kind == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
