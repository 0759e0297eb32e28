"""The pairwise sigmoid loss of SigLIP (arXiv 2303.15343) with its learned scale and bias, over all ranks."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from .distillation import similarity

START_LOG_SCALE, START_BIAS = math.log(10.0), -10.0
"""Where training starts (section 3.2 there)."""


class SigmoidLoss(nn.Module):
    """``-sum over texts of log sigmoid(+-(scale * cos + bias))``, mean over pictures; + for a picture's own text.

    ``log_scale`` and ``bias`` are learnt; fp32 [1] each, as FSDP does not shard scalars.
    """

    def __init__(self, log_scale: float = START_LOG_SCALE, bias: float = START_BIAS) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor([log_scale]))
        self.bias = nn.Parameter(torch.tensor([bias]))

    def logits(self, images: Tensor, texts: Tensor) -> Tensor:
        """Scores of unit vectors images [B, D] and texts [T, D]: fp32 [B, T], inside autocast, too."""
        return similarity(images, texts, self.log_scale) + self.bias

    def forward(self, images: Tensor, texts: Tensor, labels: Tensor | None = None) -> Tensor:
        """Loss of B pairs of unit vectors [B, D], this rank's pictures against the texts of all ranks: a scalar.

        The mean over ranks, which is what DDP makes of it, is the loss of the whole batch, however many pairs each rank
        has. ``labels`` int64 [B] may say that several texts are the same: all pictures with a text's label are then its
        positives. Raises ``ValueError`` for shapes that do not pair.
        """
        if images.shape != texts.shape or images.ndim != 2:
            raise ValueError(f"pairs need one shape [B, D], not {list(images.shape)} and {list(texts.shape)}")
        counts = gather_counts(texts)
        if labels is None:
            every = torch.arange(sum(counts), device=texts.device)
            own = every.split(counts)[rank()]
        else:
            own, every = labels, gather(labels, counts)
        sign = torch.where(own[:, None] == every[None], 1.0, -1.0)  # [B, T]
        losses = -F.logsigmoid(sign * self.logits(images, gather(texts, counts))).sum(-1)  # [B]
        return losses.mean() * (len(losses) * len(counts) / sum(counts))


def rank() -> int:
    """This process among those that train together."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_counts(x: Tensor) -> list[int]:
    """How many rows x has on each rank."""
    if world_size() == 1:
        return [len(x)]
    counts = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([len(x)], device=x.device))
    return torch.cat(counts).tolist()


def gather(x: Tensor, counts: list[int]) -> Tensor:
    """The tensors [counts[rank], ...] of all ranks, joined; gradients flow back to the rank that they belong to."""
    if len(counts) == 1:
        return x
    out = _Gather.apply(x, counts)
    assert isinstance(out, Tensor)
    return out


class _Gather(torch.autograd.Function):
    """all_gather of padded tensors, whose gradient is the sum over ranks of what each says about this rank's part."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        padded = torch.cat([x, x.new_zeros(max(counts) - len(x), *x.shape[1:])])
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        grad = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad.split(ctx.counts)[rank()], None
