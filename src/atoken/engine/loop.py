"""The training loop, top to bottom."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.prefetch import prefetch
from ..data.feeds import step_batches
from ..data.workers import worker_killed_as_oserror
from .backward import backward
from .graphs import Graphs
from .logger import Logger
from .metrics import Metrics
from .optimizer import lr_schedule, set_lr
from .protocol import TrainSpec
from .ranks import Ranks, accumulating, joined, own_random_state, whole
from .signals import StopSignal
from .state import begin
from .timing import with_steps


def run(spec: TrainSpec, out: Path, device: str = "cpu", stop_after: int | None = None) -> Any:
    """Train to the end of ``spec.config``, continuing from the last checkpoint under ``out`` where there is one.

    Writes ``log.jsonl``, ``checkpoints/`` and what ``spec`` exports to ``out/model``, and returns that. ``stop_after``
    ends this call (with a checkpoint) after that step, as Ctrl-C and SIGTERM do after the step they arrive in; then
    None is returned. A continued run computes exactly what an uninterrupted one does, and does not repeat the start.
    Under ``torchrun`` this is one rank of many.
    """
    log, graphs = spec.config.log, spec.config.parallel.graphs
    with worker_killed_as_oserror(), joined(device) as ranks, StopSignal() as stop, Logger(out, log, ranks) as logger:
        if graphs and ranks.world > 1:
            raise ranks.same(f"train config: graphs are for one rank, not {ranks.world}")
        with own_random_state(ranks.device):
            with ranks.together():
                spec = with_steps(spec, out, ranks)
            last = spec.config.steps if stop_after is None else min(spec.config.steps, stop_after)
            return _run(spec, out, last, ranks, stop, logger)


def _run(spec: TrainSpec, out: Path, last: int, ranks: Ranks, stop: StopSignal, logger: Logger) -> Any:
    config, optimizing, device = spec.config, spec.config.optimizer, torch.device(ranks.device).type
    state = begin(spec, out, ranks)
    module, parameters, progress, ema = state.module, state.parameters, state.progress, state.ema
    with ranks.together():
        logger.rewind(progress.step or -1)  # what is shown before the first step comes again, too
    if not progress.step:
        spec.preview(0, module, ema, logger)

    autocast = config.parallel.autocast
    graphs = Graphs(module, ranks.device, autocast) if config.parallel.graphs and device == "cuda" else None
    weights = {task.task: spec.weights(module, task.task) for task in config.tasks}
    metrics = Metrics(ranks, autocast)
    with closing(prefetch(step_batches(config.tasks, state.feeds, progress.step, last, device == "cuda"))) as steps:
        for batches in steps:
            _seed(config.seed, progress.step, ranks.rank)
            lr_scale = lr_schedule(progress.step, config.steps, optimizing)
            set_lr(state.optimizers, optimizing, lr_scale)
            for draw, batch in batches:
                capture = spec.capture(module, draw.task, batch) if graphs and len(batches) == 1 else None
                if graphs and capture:
                    terms = graphs.step(capture, weights[draw.task])
                else:
                    own = (weights[draw.task], draw.share, device, autocast)
                    with accumulating(state.parallel, last=batch is batches[-1][1]):
                        terms = backward(state.parallel, draw.task, batch, *own)
                progress.cursors[ranks.rank][draw.task] = batch.cursor
                metrics.add(draw.task, terms, draw.share, *spec.cost(module, draw.task, batch))

            grad_norm = float(whole(torch.nn.utils.clip_grad_norm_(parameters, optimizing.clip)))
            if math.isfinite(grad_norm):
                for optimizer in state.optimizers.values():
                    optimizer.step()
                ema.update(progress.step)
            else:
                progress.skipped += 1
            for parameter in parameters:
                parameter.grad = None
            progress.step += 1

            ended = progress.step == last or ranks.any(stop.wanted)
            if progress.skipped > optimizing.most_skipped:  # all ranks see one norm
                raise ranks.same(
                    f"{progress.skipped} steps had no finite gradient, the last of them step {progress.step}: "
                    "lower the learning rate and start again from an earlier checkpoint"
                )
            if progress.step % config.log.every == 0 or ended:
                now = {"lr": lr_scale * optimizing.lr, "grad_norm": grad_norm, "skipped": progress.skipped}
                logger.record(progress.step, {**now, **metrics.read()})
            if progress.step % config.log.checkpoint_every == 0 or ended:
                spec.preview(progress.step, module, ema, logger)  # first: the log is kept up to the checkpoint
                state.save(spec)
                metrics.restart()
            if ended:
                break
    if progress.step < config.steps:
        logger.note(f"stopped after step {progress.step} of {config.steps}: the same command continues")
        return None
    with ema.applied():
        averaged = {name: whole(tensor) for name, tensor in module.state_dict().items()}
    return spec.export(module, averaged, out / "model") if ranks.first else None


def _seed(*numbers: int) -> None:
    """Seed torch's global generators for a step, so that a continued run draws what an uninterrupted one does."""
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1))
