"""Weights in one byte each: matrices as int8 with one scale per output channel, everything else as it is."""

from __future__ import annotations

import torch
from torch import Tensor

SCALE = ".scale"

KEPT = ("proj.weight", "decoder.input_layer.weight", "decoder.out_layer.weight")
"""The two small matrices at the latents, whose rounding costs more than that of all others (nano: 0.21 dB of 0.25), and
the one at the pixels (0.025 of the 0.04 dB that are left)."""


def pack_int8(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every matrix ``name`` [out, in] as int8 plus ``name.scale`` fp32 [out]; other tensors and ``KEPT`` as bf16.

    The largest weight of a row becomes 127, so a weight errs by at most 1/254 of it.
    """
    packed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if tensor.ndim != 2 or name in KEPT:
            packed[name] = tensor.to(torch.bfloat16)
            continue
        scale = tensor.float().abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / 127
        packed[name] = (tensor.float() / scale[:, None]).round().to(torch.int8)
        packed[name + SCALE] = scale
    return packed


def unpack_int8(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``pack_int8`` up to rounding, matrices in fp32; a state without int8 passes unchanged.

    Raises ``ValueError`` where a scale is missing or does not fit.
    """
    unpacked = dict(state)
    for name, tensor in state.items():
        if tensor.dtype == torch.int8:
            scale = unpacked.pop(name + SCALE, None)
            if scale is None or scale.shape != tensor.shape[:1]:
                raise ValueError(f"{name} is int8 and {name}{SCALE} is missing or has another shape")
            unpacked[name] = tensor.float() * scale[:, None]
    return unpacked
