"""Arithmetic of a flow's training step, and what a run costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from ...engine.ranks import Ranks
from ...tokens.patch import PATCH
from ...train.plan import STATE_BYTES, Plan
from ..config import DiTConfig, dit_config
from .net import DiT
from .recipe import FlowRecipe

CAPTION = 12
"""Tokens of a caption, roughly."""
CHANNELS = 48
"""Of a latent, where no shards are looked at."""
TEXT_WIDTH = 384


def training_flops(config: DiTConfig, lengths: Sequence[float], context: Sequence[float]) -> float:
    """Floating-point operations of forward and backward over samples of so many tokens and tokens in context.

    Matrix products of the net alone, two operations for each multiplication; backward counts twice forward.
    """
    width, hidden = config.width, config.mlp_width
    joint = [own + told for own, told in zip(lengths, context, strict=True)]
    tokens, squares = sum(joint), sum(n * n for n in joint)
    block = tokens * (4 * width * width + 3 * width * hidden) + 2 * squares * width  # multiplications
    block += len(joint) * 6 * width * width  # modulations, one a sample
    ends = 2 * sum(lengths) * width * config.latent_channels + sum(context) * width * config.text_width
    return 6 * (config.depth * block + ends)


def plan(recipe: FlowRecipe) -> Plan:
    """The cost of a run on ``recipe.ranks`` ranks, from its recipe alone: samples are pictures of its size."""
    config = dit_config(
        recipe.size, CHANNELS, classes=recipe.classes, text_width=TEXT_WIDTH if recipe.text_tower else 0
    )
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in DiT(config).parameters())
    length = recipe.picture[0] // PATCH[1] * (recipe.picture[1] // PATCH[2])
    shares = sum(task.ratio or 0.0 for task in recipe.tasks)
    tokens = flops = largest = 0.0
    for task in recipe.tasks:
        often = task.accumulate * recipe.ranks * (1.0 if task.ratio is None else task.ratio / shares)
        count = task.tokens // length
        count = max(1, count if task.samples is None else min(count, task.samples))
        tokens += often * count * length
        context = CAPTION if recipe.text_tower else 0
        flops += often * count * training_flops(config, [length], [context])
        largest = max(largest, activation_bytes(config, count * (length + context), recipe.parallel.checkpointing))
    sharing = recipe.ranks if recipe.parallel.strategy == "fsdp" else 1
    return Plan(parameters, tokens, flops, STATE_BYTES * parameters // sharing, largest)


def activation_bytes(config: DiTConfig, tokens: float, checkpointing: bool) -> float:
    """What one batch keeps for the way back, roughly: per token and block 24 widths, with its modulations, and 4 hidden
    widths in bf16, or the block's input alone in fp32 and one block in full where blocks are recomputed.
    """
    whole = 2 * (24 * config.width + 4 * config.mlp_width)
    return tokens * (config.depth * 4 * config.width + whole if checkpointing else config.depth * whole)


def check_data(recipe: FlowRecipe) -> Iterator[tuple[str, str, bool]]:
    """For each task what its first batch holds, or what is missing: (task, sentence, whether it is well)."""
    from .train import FlowSpec

    for task in recipe.tasks:
        try:
            batch = FlowSpec(recipe).build_feed(task, Ranks()).batch(0)
            lengths = batch.latents.lengths
            told = "" if batch.condition.text is None else f", {sum(batch.condition.text[1])} of captions"
            sizes = f"{min(lengths)} to {max(lengths)} tokens each"
            yield task.task, f"{len(lengths)} samples of {sizes}, {sum(lengths)} of {task.tokens} tokens{told}", True
        except (ValueError, OSError) as error:
            yield task.task, str(error), False
