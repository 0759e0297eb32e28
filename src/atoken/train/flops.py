"""Arithmetic of a training step."""

from __future__ import annotations

from collections.abc import Iterable

from ..tokenizer.config import ModelConfig


def training_flops(
    config: ModelConfig, segments: Iterable[float], features: int, *, decode: bool = True, recompute: bool = False
) -> float:
    """Floating-point operations of forward and backward over segments of so many tokens (one sample in one time tile).

    Matrix products of the network alone, two operations for each multiplication; backward counts twice forward, and
    ``recompute`` adds the blocks' forward once more to what must be done. The Gaussian head, renderings, perceptual
    networks, text towers and optimizers are left out, so that MFU is a lower bound. ``decode`` is False for tasks that
    stop at the pooled embedding.
    """
    width, hidden = config.width, config.mlp_width
    tokens = squares = 0.0
    for length in segments:
        tokens, squares = tokens + length, squares + length * length
    block = tokens * (4 * width * width + 2 * width * hidden) + 2 * squares * width  # multiplications
    blocks = block * (config.encoder_depth + (config.decoder_depth if decode else 0))
    ends = tokens * width * features
    if decode:
        ends += tokens * width * (3 * config.latent_channels + features)
    else:
        ends += tokens * 2 * width * width  # keys and values of the pooling head
    return 2 * (3 * (blocks + ends) + (blocks if recompute else 0))
