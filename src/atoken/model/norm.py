"""Norms of the last axis, in fp32, whose way back takes few passes over memory."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

EPS = 1e-6
TINY = 1e-30
"""Keeps the norm of an all-zero head finite."""


class RMSNorm(nn.Module):
    """RMS norm with gain, computed in fp32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """x [N, W] -> [N, W], in x's dtype."""
        weight, wide = self.weight.float(), x.float()
        if x.is_cuda or not torch.is_grad_enabled():  # one kernel there, and nothing to gain here
            return F.rms_norm(wide, weight.shape, weight, EPS).to(x.dtype)
        with torch.no_grad():
            size = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(EPS).sqrt_()
        return (_divided(wide, size, 1 / x.shape[-1]) * weight).to(x.dtype)


class HeadNorm(nn.Module):
    """QK norm of the released decoder: ``x / |x| * gamma[head] * sqrt(D)`` per head, in fp32."""

    def __init__(self, heads: int, head_dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(heads, head_dim))

    def forward(self, x: Tensor) -> Tensor:
        """x [N, H, D] of any float dtype -> fp32 [N, H, D]."""
        x = x.float()
        with torch.no_grad():
            norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min_(TINY)
        return _divided(x, norm, 1.0) * (self.gamma.float() * x.shape[-1] ** 0.5)


class _Divide(torch.autograd.Function):
    """``x / size`` with size^2 = share * sum(x^2) + constant, whose gradient autograd would compute in ten passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: Tensor, share: float) -> Tensor:
        out = x / size
        ctx.save_for_backward(out, size)
        ctx.share = share
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,), (out, size) = grads, ctx.saved_tensors
        along = (grad * out).sum(-1, keepdim=True) * ctx.share
        return torch.addcmul(grad, out, along, value=-1).div_(size), None, None


def _divided(x: Tensor, size: Tensor, share: float) -> Tensor:
    out = _Divide.apply(x, size, share)
    assert isinstance(out, Tensor)
    return out
