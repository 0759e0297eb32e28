"""Attention over packed segments: the one place that chooses a kernel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layout import Spans
from .memory import LayerMemory
from .norm import HeadNorm, few_passes
from .rope import RotatedHeads, rotate

BLOCK = 2**21
"""Attention scores of one block on the CPU: 4 MB in bf16."""
SHORT = 512
"""Keys of a segment, up to which training on the CPU in bf16 keeps all its attention weights."""


def attend(q: Tensor, k: Tensor, v: Tensor, spans: Spans) -> Tensor:
    """Full attention inside each segment, scaled by 1/sqrt(D).

    q [Nq, H, D] and k, v [Nk, H, D] lie packed in the order of ``spans``; returns [Nq, H, D]. Half precision on CUDA
    takes the variable-length kernel; everything else one dense call per run of equal lengths, without padding.
    """
    if q.is_cuda and q.dtype in (torch.float16, torch.bfloat16):
        from torch.nn.attention.varlen import varlen_attn

        out = varlen_attn(q, k, v, *spans.cumulative)
        assert isinstance(out, Tensor)
        return out
    outputs, q_at, k_at = [], 0, 0
    for count, q_len, k_len in spans.runs:
        q_end, k_end = q_at + count * q_len, k_at + count * k_len
        query = q[q_at:q_end].unflatten(0, (count, q_len)).transpose(1, 2)  # [count, H, q_len, D]
        key = k[k_at:k_end].unflatten(0, (count, k_len)).transpose(1, 2)
        value = v[k_at:k_end].unflatten(0, (count, k_len)).transpose(1, 2)
        outputs.append(_dense(query, key, value).transpose(1, 2).flatten(0, 1))
        q_at, k_at = q_end, k_end
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def _dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Dense attention of [B, H, n, D]; the CPU's own kernel is slow in bf16, in training and without."""
    if q.device.type != "cpu" or v.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(q, k, v)
    if not (torch.is_grad_enabled() and q.requires_grad):
        return _in_blocks(q, k, v)
    with torch.autocast("cpu", enabled=False):
        if k.shape[2] <= SHORT:
            return (q * q.shape[-1] ** -0.5 @ k.mT).softmax(-1) @ v
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float()).to(v.dtype)


def _in_blocks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
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
        self.q_rms_norm = HeadNorm(heads, width // heads) if qk_norm else nn.Identity()
        self.k_rms_norm = HeadNorm(heads, width // heads) if qk_norm else nn.Identity()

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys (fp32 with QK norm) and values [N, H, D] of x [N, W], before the rotary positions."""
        q, k, v = self._qkv(x).unbind(1)
        return self.q_rms_norm(q), self.k_rms_norm(k), v

    def _qkv(self, x: Tensor) -> Tensor:
        return self.to_qkv(x).view(len(x), 3, self.heads, -1)  # [N, 3W] -> [N, 3, H, D]

    def forward(self, x: Tensor, rope: Tensor, spans: Spans, memory: LayerMemory | None = None) -> Tensor:
        """x [N, W] in the layout's order, rope complex64 [N, 1, D/2]; returns [N, W].

        With ``memory``, keys and values of the tile before are put in front and ``spans`` counts them.
        """
        if self.rope and memory is None and few_passes(x):
            q, k, v = RotatedHeads.apply(self._qkv(x), self._gain(), rope)
            return self.to_out(self.attend(q, k, v, spans).flatten(1))
        q, k, v = self.project(x)
        key_rope = rope
        if memory is not None:
            k, v, key_rope = memory.extend(k, v)
        if self.rope:
            q, k = rotate(q, rope), rotate(k, key_rope)
        q, k = q.to(v.dtype), k.to(v.dtype)
        return self.to_out(self.attend(q, k, v, spans).flatten(1))

    def _gain(self) -> Tensor | None:
        norms = (self.q_rms_norm, self.k_rms_norm)
        return torch.stack([norm.gain for norm in norms if isinstance(norm, HeadNorm)]) if self.qk_norm else None
