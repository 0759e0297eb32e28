"""How long a step takes on this machine: for the dry run, and for recipes that say minutes in place of steps."""

from __future__ import annotations

import copy
import json
import time
from dataclasses import replace
from pathlib import Path

import torch

from ..core.errors import ReadError, reading
from ..core.files import atomic_write
from .backward import backward
from .ema import EMA
from .optimizer import build_optimizers
from .protocol import TrainSpec
from .ranks import Ranks, own_random_state

MINUTES = "minutes.json"
"""In the folder of a run: how many steps its minutes have become, so that a continued run keeps them."""


def seconds_per_step(spec: TrainSpec, device: str) -> float:
    """Seconds of a step on one rank, a mean over tasks by their ratios; the second batch of each task is timed.

    Of a model with random weights. Making batches goes on beside the steps and is left out, as are checkpoints,
    evaluation and what ranks say to each other. Raises what ``build`` and ``build_feed`` of ``spec`` raise.
    """
    config, kind, total, ranks = spec.config, torch.device(device).type, 0.0, Ranks(device=device)
    with own_random_state(device):
        module = spec.build(ranks).to(device).train()
        optimizers = build_optimizers(spec.parameter_groups(module), config.optimizer)
        ema = EMA(module, config.optimizer.ema)
        ratios = sum(task.ratio or 0.0 for task in config.tasks)
        for task in config.tasks:
            feed, weights = spec.build_feed(task, ranks, workers=False), spec.weights(module, task.task)
            often = task.accumulate * (1.0 if task.ratio is None else task.ratio / ratios)
            for number in range(2):
                batch = feed.batch(number)
                start = _now(kind)
                backward(module, task.task, batch, weights, 1.0, kind, config.parallel.autocast)
                seconds = _now(kind) - start
            total += often * seconds
        for _ in range(2):
            start = _now(kind)
            for optimizer in optimizers.values():
                optimizer.step()
            ema.update(0)
            seconds = _now(kind) - start
    return total + seconds


def with_steps(spec: TrainSpec, out: Path, ranks: Ranks) -> TrainSpec:
    """``spec`` with the steps that fit into its ``minutes`` on this machine: timed once, then kept in ``out``.

    Raises ``ReadError`` for a damaged note, and ``ValueError`` where warm-up and decay do not fit into the steps.
    """
    config = spec.config
    if not config.minutes:
        return spec
    path = out / MINUTES
    if path.is_file():
        with reading(path, "delete it, and the steps are timed anew"):
            known = json.loads(path.read_text())
            steps = known["steps"]
            if known["minutes"] != config.minutes or type(steps) is not int or steps < 1:
                raise ReadError(f"{path} is of a run of other minutes: give another --out")
    else:
        seconds = max(ranks.gather(seconds_per_step(spec, ranks.device)))
        steps = max(1, int(60 * config.minutes / seconds))
        if ranks.first:
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps({"minutes": config.minutes, "steps": steps}) + "\n")
    ranks.gather(None)  # none looks for the note before it is decided whether there is one
    timed = copy.copy(spec)
    timed.config = replace(config, steps=steps, minutes=0.0)
    return timed


def _now(kind: str) -> float:
    if kind == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
