"""Transformer blocks that a condition steers: adaLN-zero (Peebles & Xie, arXiv:2212.09748), over packed segments."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .attention import CrossAttention, SelfAttention
from .cache import CacheStep, LayerCache
from .layout import Spans
from .norm import EPS, RMSNorm


class SwiGLU(nn.Module):
    """``down(silu(gate(x)) * up(x))`` (Shazeer, arXiv:2002.05202), gate and up in one matrix."""

    def __init__(self, width: int, hidden: int, *, bias: bool = True) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [N, W] -> [N, W]."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)  # [N, 2 * hidden] -> 2 x [N, hidden]
        return self.down(F.silu(gate) * up)


class Modulation(nn.Module):
    """``parts`` vectors of ``width`` numbers a sample from its condition; zero at the start of training."""

    def __init__(self, cond_width: int, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.linear = nn.Linear(cond_width, parts * width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, cond: Tensor, sample: Tensor) -> tuple[Tensor, ...]:
        """cond [B, cond_width] of the samples, of which token n belongs to ``sample[n]`` int64 [N]: parts x [N, W]."""
        return self.linear(F.silu(cond)).index_select(0, sample).chunk(self.parts, dim=-1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """``x * (1 + scale) + shift``, all [N, W]."""
    return x * (1 + scale) + shift


class AdaLNBlock(nn.Module):
    """Self-attention (QK norm, rotary), cross-attention where ``context_width`` is given, SwiGLU; each pre-normed.

    Shift, scale and gate of self-attention and MLP come from the condition and start at zero: a new block is the
    identity but for cross-attention, whose output matrix starts at zero.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_width: int,
        cond_width: int,
        *,
        context_width: int | None = None,
        qk_norm: bool = True,
    ) -> None:
        super().__init__()
        self.modulation = Modulation(cond_width, width, 6)
        self.norm1 = RMSNorm(width)
        self.attn = SelfAttention(width, heads, bias=True, qk_norm=qk_norm)
        self.norm_cross = None if context_width is None else nn.LayerNorm(width, EPS)
        self.cross = None if context_width is None else CrossAttention(width, heads, context_width)
        self.norm2 = RMSNorm(width)
        self.mlp = SwiGLU(width, mlp_width)
        if self.cross is not None:
            nn.init.zeros_(self.cross.to_out.weight)
            nn.init.zeros_(self.cross.to_out.bias)

    def forward(
        self,
        x: Tensor,
        rope: Tensor,
        spans: Spans,
        cond: Tensor,
        sample: Tensor,
        context: tuple[Tensor, Spans] | None = None,
        cache: tuple[LayerCache, CacheStep] | None = None,
        *,
        causal: bool = False,
    ) -> Tensor:
        """x [N, W] packed as ``spans`` says, rope complex64 [N, 1, D/2]; returns [N, W].

        ``cond`` [B, cond_width] with ``sample`` int64 [N] in 0 ... B - 1; ``context``: tokens [M, context_width], and
        which of them each segment's queries see.
        """
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(cond, sample)
        attended = self.attn(modulate(self.norm1(x), shift1, scale1), rope, spans, cache, causal=causal)
        x = x + gate1 * attended
        if self.cross is not None and self.norm_cross is not None and context is not None:
            x = x + self.cross(self.norm_cross(x), *context)
        return x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))
