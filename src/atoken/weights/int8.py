"""Weights in one byte each: those of linear layers as int8 with a scale per output channel, all others in bf16."""

from __future__ import annotations

from collections.abc import Container

import torch
from torch import Tensor, nn

from ..core.text import shortened

SCALE = ".scale"

KEPT = ("proj.weight", "decoder.input_layer.weight", "decoder.out_layer.weight")
"""The two small matrices at the latents, whose rounding costs more than that of all others (nano: 0.21 dB of 0.25), and
the one at the pixels (0.025 of the 0.04 dB that are left)."""


def pack_int8(state: dict[str, Tensor], linear: Container[str]) -> dict[str, Tensor]:
    """The weights [out, in] that ``linear`` names as int8 plus ``name.scale`` fp32 [out]; ``KEPT`` and others as bf16.

    The largest weight of a row becomes 127, so a weight errs by at most 1/254 of it. Scales are normal numbers, as some
    hardware takes denormal ones for zero.
    """
    packed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name not in linear or name in KEPT:
            packed[name] = tensor.to(torch.bfloat16)
            continue
        scale = (tensor.float().abs().amax(1) / 127).clamp_min(torch.finfo(torch.float32).tiny)
        packed[name] = (tensor.float() / scale[:, None]).round().to(torch.int8)
        packed[name + SCALE] = scale
    return packed


def linear_weights(model: nn.Module) -> set[str]:
    """Names of the weights of linear layers."""
    return {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)}


def unpack_int8(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``pack_int8`` up to rounding, what was int8 in fp32; a state without int8 passes unchanged.

    Raises ``ValueError`` where a scale is missing or does not fit.
    """
    unpacked = dict(state)
    for name, tensor in state.items():
        if tensor.dtype == torch.int8:
            scale = unpacked.pop(name + SCALE, None)
            fits = scale is not None and tensor.ndim == 2 and scale.shape == tensor.shape[:1]
            if scale is None or not (fits and scale.is_floating_point()):
                shown = shortened(name)
                raise ValueError(f"{shown} is int8 and no matrix, or {shown}{SCALE} is missing or does not fit")
            unpacked[name] = tensor.float() * scale[:, None]
    return unpacked
