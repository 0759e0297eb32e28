"""Attention pooling: one learned query reads all tokens of a sample (the understanding head)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import CrossAttention
from .block import Mlp
from .layout import Spans
from .norm import EPS


class AttentionPooling(nn.Module):
    """``h = attention(probe, tokens); h + mlp(layernorm(h))``, then unit length (paper section 3.2).

    With ``embed_dim`` a matrix takes the result into the space of a text tower first.
    """

    def __init__(self, width: int, heads: int, mlp_width: int, embed_dim: int | None = None) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.randn(width).mul_(0.02))
        self.attention = CrossAttention(width, heads)
        self.layernorm = nn.LayerNorm(width, EPS)
        self.mlp = Mlp(width, mlp_width, bias=True)
        self.projection = nn.Linear(width, embed_dim, bias=False) if embed_dim else nn.Identity()

    def forward(self, tokens: Tensor, sample: Tensor) -> Tensor:
        """tokens [N, W] of samples ``sample`` int64 [N], ascending; returns fp32 [B, embed_dim or W] of unit length."""
        lengths = torch.bincount(sample).tolist()
        spans = Spans.of([1] * len(lengths), lengths, tokens.device)
        pooled = self.attention(self.probe.expand(len(lengths), -1), tokens, spans)
        pooled = pooled + self.mlp(self.layernorm(pooled))
        return F.normalize(self.projection(pooled).float(), dim=-1)
