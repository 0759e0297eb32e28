"""The training loop, top to bottom."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch

from ..data.feeds import ReadAhead, build_feed, step_batches
from ..data.workers import missed
from ..pipeline.atoken import AToken
from ..tokenizer.config import ModelConfig
from .checkpoints import Checkpoints, Progress
from .config import TrainConfig
from .distributed import Ranks, accumulating, joined, spread
from .graphs import Graphs
from .heap import keep_freed_memory
from .learner import Learner
from .logbook import Logbook
from .meter import Meter
from .optimizer import Average, build_optimizers, rate, set_rates
from .passes import passes
from .previews import Pictures
from .signals import StopSignal
from .start import finished, start_model
from .tasks import build_tasks
from .timing import with_steps


def train(config: TrainConfig, out: Path, device: str = "cpu", stop_after: int | None = None) -> AToken | None:
    """Train to the end of ``config``, continuing from the last checkpoint under ``out`` where there is one.

    Writes ``log.jsonl``, ``checkpoints/``, ``pictures/``, and at the end the averaged model in bf16 under
    ``out/model``; returns that model on the CPU. ``stop_after`` ends this call (with a checkpoint) after that step, as
    Ctrl-C and SIGTERM do after the step they arrive in; then None is returned. A continued run computes exactly what
    an uninterrupted one does. Under ``torchrun`` this is one rank of many.
    """
    keep_freed_memory()
    with missed(), joined(device) as ranks, StopSignal() as stop, Logbook(out, config.log, ranks) as book:
        if config.parallel.graphs and ranks.world > 1:
            raise ranks.same(f"train config: graphs are for one rank, not {ranks.world}")
        with ranks.together():
            config = with_steps(config, out, ranks)
        last = config.steps if stop_after is None else min(config.steps, stop_after)
        return _run(config, out, last, ranks, stop, book)


def _run(config: TrainConfig, out: Path, last: int, ranks: Ranks, stop: StopSignal, book: Logbook) -> AToken | None:
    torch.manual_seed(config.seed)
    with ranks.together():
        feeds = {task.task: build_feed(task, config.seed, ranks.rank, ranks.world) for task in config.tasks}
        model = start_model(config, next(iter(feeds.values()))).to(ranks.device)
        learner = Learner(model, build_tasks(config, ranks.device, model.config)).to(ranks.device)
    parallel = spread(learner, config.parallel, ranks)
    parameters = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    optimizers = build_optimizers(learner, config.optimizer, fused=model.device.type == "cuda" and ranks.world == 1)
    average = Average(learner, config.optimizer.ema)
    checkpoints = Checkpoints(out / "checkpoints", config.log.keep, ranks, model.config)
    progress = checkpoints.load(learner, average, optimizers) or Progress(cursors=[{}] * ranks.world)
    with ranks.together():
        book.rewind(progress.step or -1)  # what is shown before the first step comes again, too
    cursors = progress.cursors[ranks.rank] if len(progress.cursors) == ranks.world else progress.cursors[0]
    with ranks.together():
        feeds = {
            task.task: build_feed(task, config.seed, ranks.rank, ranks.world, cursors.get(task.task))
            for task in config.tasks
        }
    progress.cursors = [dict(cursors) for _ in range(ranks.world)]
    pictures = Pictures(config.log, learner, average, book)
    meter = Meter(model.config, ranks, config.parallel.autocast)

    pinned = model.device.type == "cuda"
    if not progress.step:
        pictures.show(0)
    graphs = Graphs(learner, config.loss, config.parallel.autocast) if config.parallel.graphs and pinned else None
    with ReadAhead(step_batches(config.tasks, feeds, progress.step, last, pinned)) as steps:
        for batches in steps:
            share = rate(progress.step, config.steps, config.optimizer)
            set_rates(optimizers, config.optimizer, share)
            for draw, batch in batches:
                terms = graphs.step(draw.task, batch) if graphs and len(batches) == 1 else None
                if terms is None:
                    with accumulating(parallel, last=batch is batches[-1][1]):
                        terms = passes(parallel, draw.task, draw.share, batch, config, model.device.type)
                progress.cursors[ranks.rank][draw.task] = batch.cursor
                meter.add(draw.task, terms, draw.share, batch)

            norm = _full(torch.nn.utils.clip_grad_norm_(parameters, config.optimizer.clip))
            if math.isfinite(norm):
                for optimizer in optimizers.values():
                    optimizer.step()
                average.update(progress.step)
            else:
                progress.skipped += 1
            for parameter in parameters:
                parameter.grad = None
            progress.step += 1

            ended = progress.step == last or ranks.any(stop.wanted)
            if progress.skipped > config.optimizer.most_skipped:  # all ranks see one norm
                raise ranks.same(
                    f"{progress.skipped} steps had no finite gradient, the last of them step {progress.step}: "
                    "lower the learning rate and start again from an earlier checkpoint"
                )
            if progress.step % config.log.every == 0 or ended:
                book.record(progress.step, {"rate": share, "norm": norm, "skipped": progress.skipped, **meter.read()})
            if progress.step % config.log.checkpoint_every == 0 or ended:
                pictures.show(progress.step)  # first: a continued run keeps the log up to its checkpoint
                checkpoints.save(progress, learner, average, optimizers)
                meter.restart()
            if ended:
                break
    if progress.step < config.steps:
        book.note(f"stopped after step {progress.step} of {config.steps}: the same command continues")
        return None
    with average.applied():
        state = {name: _whole(tensor) for name, tensor in model.state_dict().items()}
        ended_as = _with_learnt_logits(model.config, learner)
    return finished(ended_as, state, out / "model") if ranks.first else None


def _with_learnt_logits(config: ModelConfig, learner: Learner) -> ModelConfig:
    """``config`` with the scale and bias that the recipe's first task of pairs has learnt, if it has any."""
    losses = list(learner.extras.values())
    if not losses or config.text_tower is None:
        return config
    scale, bias = (float(_whole(losses[0].get_parameter(name))) for name in ("log_scale", "bias"))
    return replace(config, logit_scale=scale, logit_bias=bias)


def _full(norm: torch.Tensor) -> float:
    return float(_whole(norm))


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor with all its shards, on the CPU; every rank must call it."""
    full = getattr(tensor, "full_tensor", None)
    return (full() if full else tensor).detach().cpu()
