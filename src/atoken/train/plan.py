"""What a stage will take, without training: steps, arithmetic, GPU-hours, memory, and whether its data is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ..data.feeds import build_feed, without_workers
from ..engine.flops import H100_PEAK
from ..pipeline.atoken import AToken
from ..tokenizer.config import ModelConfig
from ..tokens.patch import FRAME_FEATURES, PATCH, PATCH_FEATURES
from .config import TaskConfig, TrainConfig
from .flops import training_flops

VOXELS = 10_000
"""Tokens of an asset at 64 voxels a side, roughly (1,800 to 16,700 for furniture)."""
STATE_BYTES = 20
"""fp32 weight, gradient, two moments and average of each parameter."""


@dataclass(frozen=True)
class Plan:
    """A stage's cost."""

    parameters: int
    tokens: float
    """A step, over all ranks, on average."""
    flops: float
    """A step, over all ranks, on average: the network's own matrix products, recomputation not counted."""
    state_bytes: int
    """Of weights, gradients, moments and averages on one rank."""
    activation_bytes: float
    """On one rank for the largest batch, roughly."""

    def hours(self, steps: int, utilisation: float) -> float:
        """GPU-hours on H100s that reach ``utilisation`` of their peak."""
        return self.flops * steps / (H100_PEAK * utilisation) / 3600


def plan(config: TrainConfig) -> Plan:
    """The cost of a stage on ``config.ranks`` ranks, from its recipe alone."""
    model = config.model_config
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in AToken(model).parameters())
    shares = sum(task.ratio or 0.0 for task in config.tasks)
    tokens = flops = largest = 0.0
    for task in config.tasks:
        often = task.accumulate * config.ranks * (1.0 if task.ratio is None else task.ratio / shares)
        segment = typical_segment(task)
        features = PATCH_FEATURES if task.kind.modality == "video" else FRAME_FEATURES
        tokens += often * task.tokens
        if task.kind.keeps_decoded:  # what is decoded once and kept; the head itself is small
            continue
        flops += (
            often * training_flops(model, [segment] * 1, features, decode=task.kind.decodes) * task.tokens / segment
        )
        largest = max(largest, activation_bytes(model, task.tokens, config.parallel.checkpointing, task.kind.decodes))
    sharing = config.ranks if config.parallel.strategy == "fsdp" else 1
    return Plan(parameters, tokens, flops, STATE_BYTES * parameters // sharing, largest)


def typical_segment(task: TaskConfig) -> float:
    """Tokens that attend to each other in a token's own segment, on average over tokens.

    For shards the shorter side is taken as uniform over the stage's resolutions and the picture as square; tokens of
    large pictures count more, as there are more of them.
    """
    squares = task.crops or task.clips
    if squares is not None:
        counts = np.array([(size // PATCH[1]) ** 2 for size in squares.sizes], float)
        steps = 1.0 if task.clips is None else np.minimum(np.array(task.clips.frames), 16).mean() / PATCH[0]
        return float(steps * (counts * np.array(squares.shares)).sum() / sum(squares.shares))
    if task.cutouts is not None:
        return (task.cutouts.size // PATCH[1]) ** 2
    source = task.assets or task.shards
    if source is None:  # a feed of the recipe's own: one sample a batch
        return task.tokens
    if task.kind.modality == "3d":
        return min(VOXELS * (source.voxels / 64) ** 2, task.tokens)
    assert task.shards is not None
    sides = np.linspace(*task.shards.resolution, 256) / PATCH[1]
    steps = min(task.shards.frames[1], 16) / PATCH[0] if task.kind.modality == "video" else 1
    counts = sides**2 * steps
    return float(min((counts**2).sum() / counts.sum(), task.tokens))


def activation_bytes(model: ModelConfig, tokens: int, checkpointing: bool, decode: bool) -> float:
    """What one batch keeps for the way back, roughly: per token and block about 16 widths and 3 hidden widths in bf16,
    or the block's input alone in fp32 and one block in full where blocks are recomputed.
    """
    depth = model.encoder_depth + (model.decoder_depth if decode else 0)
    whole = 2 * (16 * model.width + 3 * model.mlp_width)
    return tokens * (depth * 4 * model.width + whole if checkpointing else depth * whole)


def check_data(config: TrainConfig) -> Iterator[tuple[str, str, bool]]:
    """For each task what its first batch holds, or what is missing: (task, sentence, whether it is well)."""
    for task in config.tasks:
        try:
            batch = build_feed(without_workers(task), config.seed).batch(0)
            lengths = batch.packed.lengths
            sizes = f"{min(lengths)} to {max(lengths)} tokens each"
            yield task.task, f"{len(lengths)} samples of {sizes}, {sum(lengths)} of {task.tokens} tokens", True
        except (ValueError, OSError) as error:
            yield task.task, str(error), False
