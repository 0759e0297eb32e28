"""Norms of the last axis, in fp32. Training on the CPU takes a way with few passes over memory, and keeps little."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

EPS = 1e-6
TINY = 1e-30
"""Keeps the norm of an all-zero head finite."""


PART = 2**16
"""Numbers of a part that ``in_parts`` takes through fp32 for each thread: 256 kB, which lie in its cache."""


def in_parts(x: Tensor) -> bool:
    """Whether fp32 copies are made of a few rows at a time, so that they never leave the cache: without gradients on
    the CPU, and where nothing records the way of the computation."""
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not recorded


def parts_of(x: Tensor) -> Iterator[slice]:
    """Slices of a few rows of x [N, ...] each, for ``in_parts``."""
    step = max(1, PART * torch.get_num_threads() // max(1, x[:1].numel()))
    return (slice(start, start + step) for start in range(0, len(x), step))


def few_passes(x: Tensor) -> bool:
    """Whether functions with a way back of their own, in place, are used: CUDA has kernels for what they do, and
    torch.compile makes its own of the plain formulas."""
    return torch.is_grad_enabled() and x.device.type == "cpu" and not torch.compiler.is_compiling()


class RMSNorm(nn.Module):
    """RMS norm with gain, computed in fp32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """x [N, W] -> [N, W], in x's dtype."""
        weight = self.weight.float()
        if few_passes(x):
            out = _RMSNorm.apply(x, weight)
            assert isinstance(out, Tensor)
            return out
        if in_parts(x) and x.dtype != torch.float32:
            normed = torch.empty_like(x)
            for part in parts_of(x):
                normed[part] = F.rms_norm(x[part].float(), weight.shape, weight, EPS)
            return normed
        return F.rms_norm(x.float(), weight.shape, weight, EPS).to(x.dtype)


class QKNorm(nn.Module):
    """QK norm of the released decoder: ``x / |x| * gamma[head] * sqrt(D)`` per head, in fp32."""

    def __init__(self, heads: int, head_dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(heads, head_dim))

    @property
    def gain(self) -> Tensor:
        """``gamma * sqrt(D)``, fp32 [H, D]."""
        return self.gamma.float() * self.gamma.shape[-1] ** 0.5

    def forward(self, x: Tensor) -> Tensor:
        """x [N, H, D] of any float dtype -> fp32 [N, H, D]."""
        x = x.float()
        return x / head_size(x) * self.gain


def head_size(x: Tensor) -> Tensor:
    """Euclidean norms of the last axis of x [..., D]: [..., 1]."""
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(TINY)


class _RMSNorm(torch.autograd.Function):
    """x [N, W], gain fp32 [W] -> [N, W] in x's dtype; keeps x and one number a row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor) -> Tensor:
        wide = x.to(torch.float32, copy=True)
        size = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(EPS).sqrt_()
        ctx.save_for_backward(x, size, gain)
        return wide.div_(size).mul_(gain).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        x, size, gain = ctx.saved_tensors
        wide = grads[0].to(torch.float32, copy=True)
        return wide, norm_backward(wide, x, size, gain, 1 / x.shape[-1])


def norm_backward(grad: Tensor, x: Tensor, size: Tensor, gain: Tensor, share: float) -> Tensor:
    """The way back of ``x / size * gain`` with size^2 = share * sum(x^2) + constant, over the last axis.

    Turns ``grad`` (fp32, contiguous) of the output into that of x [N, ..., D], in place, and returns that of ``gain``.
    """
    out = x.float() / size
    product = grad * out
    grad_gain = product.sum_to_size(gain.shape)
    along = product.mul_(gain).sum(-1, keepdim=True).mul_(share)
    grad.mul_(gain).addcmul_(out, along, value=-1).div_(size)
    return grad_gain
