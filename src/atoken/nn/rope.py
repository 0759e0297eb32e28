"""Rotary positions over any axes; the tokenizer's are t, x, y, z."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .norm import head_size, norm_backward, parts_of

BASE = 10000.0


def rope_table(positions: Tensor, head_dim: int, *, axial: bool = False) -> Tensor:
    """Rotations of every token: complex64 [N, 1, D/2] from integer or float positions [N, A] on any A axes.

    The D/2 pairs are shared out over the axes in order; where A does not divide them, the first axes get one more.
    Pair k of an axis turns by ``BASE ** (-k / D)`` a step. The exponent is over the *full* head dimension, so for
    four axes and D = 72 they span only 1.0 to 0.36 radians: what the released checkpoints were trained with.
    ``axial``: over the pairs of the axis instead, ``BASE ** (-k / pairs)``, the usual choice of image and video models.
    Raises ``ValueError`` for more axes than pairs.
    """
    pairs, axes = head_dim // 2, positions.shape[1]
    if axes > pairs:
        raise ValueError(f"{axes} axes need {2 * axes} or more channels a head, not {head_dim}")
    angles = []
    for axis in range(axes):
        own = pairs // axes + (axis < pairs % axes)
        k = torch.arange(own, device=positions.device, dtype=torch.float32)
        frequencies = BASE ** (-k / (own if axial else head_dim))
        angles.append(positions[:, axis : axis + 1].float() * frequencies)  # [N, own]
    turns = torch.cat(angles, 1)  # [N, D/2]
    return torch.polar(torch.ones_like(turns), turns)[:, None]


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate the adjacent pairs (2j, 2j+1) of x [N, H, D] by ``table`` [N, 1, D/2]: fp32 [N, H, D]."""
    return torch.view_as_real(_pairs(x.float()) * table).flatten(-2)


def rotate_heads(qkv: Tensor, gain: Tensor | None, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What ``RotatedHeads`` gives, without a way back: the fp32 copy is made of a few tokens at a time."""
    out = torch.empty_like(qkv[:, :2], memory_format=torch.contiguous_format)  # [N, 2, H, D]
    for part in parts_of(out):
        wide = out[part].copy_(qkv[part, :2]).float()  # itself where it is fp32 already
        if gain is not None:
            wide.div_(head_size(wide)).mul_(gain)
        _pairs(wide).mul_(table[part, None])
        out[part] = wide
    q, k = out.unbind(1)
    return q, k, qkv[:, 2]


class RotatedHeads(torch.autograd.Function):
    """Queries, keys and values of qkv [N, 3, H, D], the first two with QK norm (``gain`` fp32 [2, H, D], or None) and
    rotated by ``table`` [N, 1, D/2]: three [N, H, D] in qkv's dtype.

    What QKNorm and ``rotate`` compute, in place in fp32; of its input it keeps what the product before has made.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, gain: Tensor | None, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keeps qkv and the size of each head, besides what the layer itself keeps."""
        wide = qkv[:, :2].to(torch.float32, copy=True, memory_format=torch.contiguous_format)  # [N, 2, H, D]
        size = None
        if gain is not None:
            size = head_size(wide)
            wide.div_(size).mul_(gain)
        _pairs(wide).mul_(table[:, None])
        ctx.save_for_backward(qkv, size, gain, table)
        q, k = wide.to(qkv.dtype).unbind(1)
        return q, k, qkv[:, 2]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """Gradients of qkv and of the gain."""
        qkv, size, gain, table = ctx.saved_tensors
        wide = torch.stack(grads[:2], 1).float()
        _pairs(wide).mul_(table[:, None].conj())
        grad_gain = None if gain is None else norm_backward(wide, qkv[:, :2], size, gain, 1.0)
        grad = torch.empty_like(qkv)
        grad[:, :2], grad[:, 2] = wide, grads[2]
        return grad, grad_gain, None


def _pairs(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))
