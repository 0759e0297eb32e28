"""What a generator's training costs, and whether its data is there."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..engine.ranks import Ranks
from ..tokens.patch import PATCH
from ..train.plan import STATE_BYTES, Plan
from .recipe import GeneratorRecipe
from .train import GeneratorSpec

CAPTION = 12
"""Tokens of a caption, roughly."""
TEXT_WIDTH = 384


def plan(recipe: GeneratorRecipe) -> Plan:
    """The cost of a run on ``recipe.ranks`` ranks, from its recipe alone: samples are pictures of its size."""
    config = recipe.net_config(TEXT_WIDTH if recipe.text_tower else 0)
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in recipe.build_net(config).parameters())
    length = recipe.picture[0] // PATCH[1] * (recipe.picture[1] // PATCH[2])
    shares = sum(task.ratio or 0.0 for task in recipe.tasks)
    tokens = flops = largest = 0.0
    for task in recipe.tasks:
        often = task.accumulate * recipe.ranks * (1.0 if task.ratio is None else task.ratio / shares)
        count = task.tokens // length
        count = max(1, count if task.samples is None else min(count, task.samples))
        tokens += often * count * length
        context = CAPTION if recipe.text_tower else 0
        flops += often * count * recipe.flops(config, [length], [context])
        largest = max(largest, recipe.activation_bytes(config, count * (length + context)))
    sharing = recipe.ranks if recipe.parallel.strategy == "fsdp" else 1
    return Plan(parameters, tokens, flops, STATE_BYTES * parameters // sharing, largest)


def check_data(spec: GeneratorSpec) -> Iterator[tuple[str, str, bool]]:
    """For each task what its first batch holds, or what is missing: (task, sentence, whether it is well)."""
    for task in spec.config.tasks:
        try:
            batch = spec.build_feed(task, Ranks()).batch(0)
            lengths = batch.lengths
            told = "" if batch.condition.text is None else f", {sum(batch.condition.text[1])} of captions"
            sizes = f"{min(lengths)} to {max(lengths)} tokens each"
            yield task.task, f"{len(lengths)} samples of {sizes}, {sum(lengths)} of {task.tokens} tokens{told}", True
        except (ValueError, OSError) as error:
            yield task.task, str(error), False
