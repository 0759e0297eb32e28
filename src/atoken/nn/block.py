"""Pre-norm transformer block: ``x += attention(norm1(x)); x += mlp(norm2(x))``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import SelfAttention
from .cache import CacheStep, LayerCache
from .layout import Spans
from .norm import EPS, RMSNorm


class Mlp(nn.Module):
    """Linear, GELU, linear; ``gelu`` is the approximation of ``torch.nn.GELU``: tanh or none."""

    def __init__(self, width: int, hidden: int, *, bias: bool, gelu: str = "tanh") -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden, bias=bias), nn.GELU(gelu), nn.Linear(hidden, width, bias=bias)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x [N, W] -> [N, W]."""
        up, gelu, down = self.mlp
        assert isinstance(up, nn.Linear)
        assert isinstance(gelu, nn.GELU)
        return down(linear_gelu(x, up.weight, up.bias, gelu.approximate))


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor | None, approximate: str) -> Tensor:
    """``gelu(x @ weight.T + bias)``, its approximation tanh or none, of x [N, W]: [N, hidden].

    Without gradients on the CPU one oneDNN call does both, several times faster than a second pass in bf16.
    """
    if x.device.type == "cpu" and x.dtype == weight.dtype and not torch.is_grad_enabled() and _has_fused(x.dtype):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], approximate)
    return F.gelu(F.linear(x, weight, bias), approximate=approximate)


def _has_fused(dtype: torch.dtype) -> bool:
    """Whether oneDNN has that call here: for bf16 not on CPUs with AVX2 alone, for fp16 on few."""
    if dtype == torch.bfloat16:
        return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return torch.backends.mkldnn.is_available() and dtype == torch.float32


class Block(nn.Module):
    """One block of the encoder (LayerNorm, biases) or of the decoder (RMSNorm, QK norm, no biases)."""

    def __init__(
        self, width: int, heads: int, mlp_width: int, *, decoder: bool, rope: bool = True, gelu: str = "tanh"
    ) -> None:
        super().__init__()
        self.norm1 = RMSNorm(width) if decoder else nn.LayerNorm(width, EPS)
        self.attn = SelfAttention(width, heads, bias=not decoder, qk_norm=decoder, rope=rope)
        self.norm2 = RMSNorm(width) if decoder else nn.LayerNorm(width, EPS)
        self.mlp = Mlp(width, mlp_width, bias=not decoder, gelu=gelu)

    def forward(
        self,
        x: Tensor,
        rope: Tensor,
        spans: Spans,
        cache: tuple[LayerCache, CacheStep] | None = None,
        *,
        causal: bool = False,
    ) -> Tensor:
        """x [N, W] in the layout's order, rope complex64 [N, 1, D/2]; returns [N, W]."""
        x = x + self.attn(self.norm1(x), rope, spans, cache, causal=causal)
        return x + self.mlp(self.norm2(x))
