"""Arithmetic of a training step, and what a device could do at most: their ratio is the MFU."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from ..core.machine import matmul_peak
from ..tokenizer.config import ModelConfig

H100_PEAK = 989.4e12
PEAKS = (
    ("B200", 2250e12),
    ("H200", H100_PEAK),
    ("GH200", H100_PEAK),
    ("H100 NVL", 835.5e12),
    ("H100 PCIe", 756.5e12),
    ("H100", H100_PEAK),
    ("L40S", 362.0e12),
    ("L4", 121.0e12),
    ("A100", 312.0e12),
    ("A10G", 70.0e12),
    ("A10", 125.0e12),
    ("RTX 4090", 165.2e12),
    ("V100", 125.0e12),
)
"""Dense bf16 (V100: fp16) operations a second by the vendor's data sheets, for the first name that a device's holds."""


def device_peak(device: str, autocast: bool) -> float:
    """Operations a second that MFU is reckoned with: the data sheet's of bf16 for a known GPU, whatever ``autocast``
    says; else the fastest matrix product of the dtype in use, measured here.
    """
    if torch.device(device).type == "cuda":
        name = torch.cuda.get_device_name(device)
        if known := next((peak for part, peak in PEAKS if part in name), None):
            return known
    return matmul_peak(device, torch.bfloat16 if autocast else torch.float32)


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
