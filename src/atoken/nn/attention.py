"""Attention over packed segments: the one place that chooses a kernel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.machine import has_amx
from .cache import CacheStep, LayerCache
from .layout import Spans
from .norm import QKNorm, few_passes, in_parts
from .rope import RotatedHeads, rotate, rotate_heads

BLOCK = 2**21
"""Attention scores of one block on the CPU: 4 MB in bf16."""
SHORT = 512
"""Keys of a segment, up to which training on the CPU in bf16 keeps all its attention weights."""


def attend(q: Tensor, k: Tensor, v: Tensor, spans: Spans, *, causal: bool = False) -> Tensor:
    """Attention inside each segment, scaled by 1/sqrt(D): full, or ``causal``.

    q [Nq, H, D] and k, v [Nk, H, D] lie packed in the order of ``spans``; returns [Nq, H, D]. Self-attention has as
    many queries as keys in each segment, cross-attention any numbers. Causal: the last query of a segment sees all its
    keys, each query before it one key less, so that queries may follow on cached keys. Half precision on CUDA takes the
    variable-length kernel; everything else one dense call per run of equal lengths, without padding.
    """
    if q.is_cuda and q.dtype in (torch.float16, torch.bfloat16):
        from torch.nn.attention.varlen import varlen_attn

        out = varlen_attn(q, k, v, *spans.cumulative, window_size=(-1, 0 if causal else -1))
        assert isinstance(out, Tensor)
        return out
    queries = q.split([count * q_len for count, q_len, _ in spans.runs])  # on the way back one cat, not a sum of zeros
    keys, values = (x.split([count * k_len for count, _, k_len in spans.runs]) for x in (k, v))
    outputs = []
    for (count, q_len, k_len), own_q, own_k, own_v in zip(spans.runs, queries, keys, values, strict=True):
        query = own_q.unflatten(0, (count, q_len)).transpose(1, 2)  # [count, H, q_len, D]
        key, value = (x.unflatten(0, (count, k_len)).transpose(1, 2) for x in (own_k, own_v))
        outputs.append(_dense(query, key, value, causal).transpose(1, 2).flatten(0, 1))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def _dense(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """Dense attention of [B, H, n, D]. The CPU's own kernel is slow in bf16 without AMX, and in training.

    With AMX it took 0.5 to 0.7 of the time of the blocks below, for 16 to 4,096 tokens.
    """
    if q.device.type != "cpu" or v.dtype != torch.bfloat16:
        return _sdpa(q, k, v, causal)
    if not (torch.is_grad_enabled() and q.requires_grad):
        return _sdpa(q, k, v, causal) if has_amx() else _in_blocks(q, k, v, causal)
    with torch.autocast("cpu", enabled=False):
        if k.shape[2] <= SHORT:
            scores = q * q.shape[-1] ** -0.5 @ k.mT
            if causal:
                scores = scores.masked_fill(_unseen(q.shape[2], k.shape[2], q.device), -torch.inf)
            return scores.softmax(-1) @ v
        return _sdpa(q.float(), k.float(), v.float(), causal).to(v.dtype)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    if not causal or q.shape[2] == 1:
        return F.scaled_dot_product_attention(q, k, v)
    if q.shape[2] == k.shape[2]:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=~_unseen(q.shape[2], k.shape[2], q.device))


def _unseen(queries: int, keys: int, device: torch.device, first: int = 0, last: int | None = None) -> Tensor:
    """Keys that queries ``first`` ... ``last - 1`` of a causal segment do not see: bool [last - first, keys]."""
    rows = torch.arange(first, queries if last is None else last, device=device)
    return torch.arange(keys, device=device) > rows[:, None] + (keys - queries)


def _in_blocks(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """Attention of [B, H, n, D] as matrix products over blocks of scores that fit the cache: memory linear in n."""
    shape, (queries, keys) = q.shape, (q.shape[2], k.shape[2])
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))  # [B * H, n, D]
    rows = min(queries, max(1, BLOCK // keys))
    heads = max(1, BLOCK // (rows * keys))
    out = torch.empty_like(q)
    for head in range(0, len(q), heads):
        key, value = k[head : head + heads].mT, v[head : head + heads]
        for row in range(0, queries, rows):
            query = q[head : head + heads, row : row + rows]
            scores = torch.baddbmm(query.new_empty(1, 1, 1), query, key, beta=0, alpha=q.shape[-1] ** -0.5)
            if causal:
                scores.masked_fill_(_unseen(queries, keys, q.device, row, min(row + rows, queries)), -torch.inf)
            out[head : head + heads, row : row + rows] = scores.softmax(-1) @ value
    return out.view(shape)


class SelfAttention(nn.Module):
    """Multi-head self-attention, with 4D rotary positions unless ``rope`` is off; bias or QK norm on one side each.

    ``attend`` is the function of that name here, an attribute so that compiled blocks can leave it as it is.
    """

    def __init__(self, width: int, heads: int, *, bias: bool, qk_norm: bool, rope: bool = True) -> None:
        super().__init__()
        self.heads, self.rope, self.qk_norm = heads, rope, qk_norm
        self.attend = attend
        self.to_qkv = nn.Linear(width, 3 * width, bias=bias)
        self.to_out = nn.Linear(width, width, bias=bias)
        self.q_rms_norm = QKNorm(heads, width // heads) if qk_norm else nn.Identity()
        self.k_rms_norm = QKNorm(heads, width // heads) if qk_norm else nn.Identity()

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys (fp32 with QK norm) and values [N, H, D] of x [N, W], before the rotary positions."""
        q, k, v = self._qkv(x).unbind(1)
        return self.q_rms_norm(q), self.k_rms_norm(k), v

    def _qkv(self, x: Tensor) -> Tensor:
        return self.to_qkv(x).view(len(x), 3, self.heads, -1)  # [N, 3W] -> [N, 3, H, D]

    def forward(
        self,
        x: Tensor,
        rope: Tensor,
        spans: Spans,
        cache: tuple[LayerCache, CacheStep] | None = None,
        *,
        causal: bool = False,
    ) -> Tensor:
        """x [N, W] in the layout's order, rope complex64 [N, 1, D/2]; returns [N, W].

        With ``cache``, the keys and values that it holds come in front of each segment's own, and ``spans`` counts
        them.
        """
        if self.rope and cache is None and (few_passes(x) or in_parts(x)):
            turn = rotate_heads if in_parts(x) else RotatedHeads.apply
            q, k, v = turn(self._qkv(x), self._gain(), rope)
            return self.to_out(self.attend(q, k, v, spans, causal=causal).flatten(1))
        q, k, v = self.project(x)
        key_rope: Tensor | None = rope
        if cache is not None:
            layer, step = cache
            if self.rope and step.key_rope is None:  # cached keys are rotated already
                k = rotate(k, rope)
            key_rope = step.key_rope
            k, v = layer.extend(k, v, step)
        if self.rope:
            q = rotate(q, rope)
            k = k if key_rope is None else rotate(k, key_rope)
        q, k = q.to(v.dtype), k.to(v.dtype)
        return self.to_out(self.attend(q, k, v, spans, causal=causal).flatten(1))

    def _gain(self) -> Tensor | None:
        norms = (self.q_rms_norm, self.k_rms_norm)
        return torch.stack([norm.gain for norm in norms if isinstance(norm, QKNorm)]) if self.qk_norm else None


class CrossAttention(nn.Module):
    """Multi-head cross-attention with biases and without positions; ``context`` has ``context_width`` channels."""

    def __init__(self, width: int, heads: int, context_width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width)
        self.to_kv = nn.Linear(context_width or width, 2 * width)
        self.to_out = nn.Linear(width, width)

    def forward(self, query: Tensor, context: Tensor, spans: Spans) -> Tensor:
        """query [Nq, W], context [N, context_width], packed as ``spans`` says; returns [Nq, W]."""
        q = self.to_q(query).unflatten(-1, (self.heads, -1))  # [Nq, W] -> [Nq, H, D]
        k, v = self.to_kv(context).view(len(context), 2, self.heads, -1).unbind(1)  # [N, 2W] -> 2 x [N, H, D]
        return self.to_out(attend(q, k, v, spans).flatten(1))
