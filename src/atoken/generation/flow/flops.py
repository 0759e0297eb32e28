"""Arithmetic of a flow's training step."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import DiTConfig


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


def activation_bytes(config: DiTConfig, tokens: float, checkpointing: bool) -> float:
    """What one batch keeps for the way back, roughly: per token and block 24 widths, with its modulations, and 4 hidden
    widths in bf16, or the block's input alone in fp32 and one block in full where blocks are recomputed.
    """
    whole = 2 * (24 * config.width + 4 * config.mlp_width)
    return tokens * (config.depth * 4 * config.width + whole if checkpointing else config.depth * whole)
