"""A small BERT encoder (arXiv 1810.04805), for inference: enough for MiniLM without transformers or torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

EPS = 1e-12
KINDS = ("word", "position", "token_type")

_erf = np.frompyfunc(math.erf, 1, 1)


class Bert:
    """Token, position and segment embeddings, then post-norm blocks, from a state dict with BERT's names.

    The state's arrays are NumPy's; ``towers.TorchBert`` has the same architecture over torch's.
    """

    def __init__(self, state: Mapping[str, Any], heads: int) -> None:
        self.state, self.heads = state, heads
        self.depth = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("encoder.layer."))

    def __call__(self, ids: Any, mask: Any) -> Any:
        """Token ids int64 [B, N] and which of them are text, bool [B, N] -> hidden states fp32 [B, N, W]."""
        words, positions, segments = (self.state[f"embeddings.{kind}_embeddings.weight"] for kind in KINDS)
        x = self.norm("embeddings.LayerNorm", words[ids] + positions[: ids.shape[1]] + segments[0])
        for index in range(self.depth):
            prefix = f"encoder.layer.{index}"
            q, k, v = (
                self.linear(f"{prefix}.attention.self.{part}", x).reshape(*ids.shape, self.heads, -1).swapaxes(1, 2)
                for part in ("query", "key", "value")
            )  # [B, H, N, D]
            attended = self.attention(q, k, v, mask[:, None, None]).swapaxes(1, 2).reshape(x.shape)
            x = self.norm(
                f"{prefix}.attention.output.LayerNorm", x + self.linear(f"{prefix}.attention.output.dense", attended)
            )
            inner = self.gelu(self.linear(f"{prefix}.intermediate.dense", x))
            x = self.norm(f"{prefix}.output.LayerNorm", x + self.linear(f"{prefix}.output.dense", inner))
        return x

    def linear(self, name: str, x: Any) -> Any:
        """A matrix and a bias."""
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, name: str, x: Any) -> Any:
        """Layer norm over the last axis."""
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS)
        return x * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def attention(self, q: Any, k: Any, v: Any, mask: Any) -> Any:
        """Softmax attention, [B, H, N, D], to where ``mask`` [B, 1, 1, N] is true."""
        scores = np.where(mask, q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1]), -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True)).astype(v.dtype)
        return shares @ v / shares.sum(-1, keepdims=True)

    def gelu(self, x: Any) -> Any:
        """GELU by the error function."""
        return x * (0.5 + 0.5 * _erf(x / math.sqrt(2)).astype(x.dtype))
