"""A small BERT encoder (arXiv 1810.04805), for inference: enough for MiniLM without transformers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-12


class Bert(nn.Module):
    """Token, position and segment embeddings, then post-norm blocks, from a state dict with BERT's names."""

    def __init__(self, state: dict[str, Tensor], heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.depth = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("encoder.layer."))
        for name, tensor in state.items():
            self.register_buffer(name.replace(".", "/"), tensor.float() if tensor.is_floating_point() else tensor)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids int64 [B, N] and which of them are text, bool [B, N] -> hidden states [B, N, W]."""
        words, positions, segments = (self._get(f"embeddings.{kind}_embeddings.weight") for kind in KINDS)
        x = self._norm("embeddings.LayerNorm", words[ids] + positions[: ids.shape[1]] + segments[0])
        for index in range(self.depth):
            prefix = f"encoder.layer.{index}"
            q, k, v = (
                self._linear(f"{prefix}.attention.self.{part}", x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                for part in ("query", "key", "value")
            )  # [B, H, N, D]
            attended = F.scaled_dot_product_attention(q, k, v, mask[:, None, None]).transpose(1, 2).flatten(2)
            attended = self._linear(f"{prefix}.attention.output.dense", attended)
            x = self._norm(f"{prefix}.attention.output.LayerNorm", x + attended)
            inner = F.gelu(self._linear(f"{prefix}.intermediate.dense", x))
            x = self._norm(f"{prefix}.output.LayerNorm", x + self._linear(f"{prefix}.output.dense", inner))
        return x

    def _get(self, name: str) -> Tensor:
        return self.get_buffer(name.replace(".", "/"))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self._get(f"{name}.weight"), self._get(f"{name}.bias"))

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight = self._get(f"{name}.weight")
        return F.layer_norm(x, weight.shape, weight, self._get(f"{name}.bias"), EPS)


KINDS = ("word", "position", "token_type")
