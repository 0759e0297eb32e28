"""The encoder: packed patches to packed tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..nn.block import Block
from ..nn.layout import Layout
from ..nn.norm import EPS
from ..nn.pooling import AttentionPooling
from ..nn.position import PositionTable
from ..tokens.patch import PATCH_FEATURES
from .config import ModelConfig


class Encoder(nn.Module):
    """Patch embedding, positions, transformer blocks and a final LayerNorm; carries the understanding head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, heads, hidden = config.width, config.heads, config.mlp_width
        self.pos_embedder = PositionTable(config.table_size, width)
        self.input_layer = nn.Linear(PATCH_FEATURES, width)
        self.blocks = nn.ModuleList(
            Block(width, heads, hidden, decoder=False, rope=config.rope, gelu=config.gelu)
            for _ in range(config.encoder_depth)
        )
        self.post_layernorm = nn.LayerNorm(width, EPS)
        self.head = AttentionPooling(width, heads, hidden, config.embed_dim)

    def forward(
        self, feats: Tensor, layout: Layout, hidden_layers: Sequence[int] = ()
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """feats [N, 3072], or [N, 768] where the other three frames are zero, in input order.

        Returns the tokens before and after the final norm, both [N, W] in input order, and those after each number of
        blocks that ``hidden_layers`` names (0: before the first).
        """
        weight = self.input_layer.weight[:, : feats.shape[1]]  # frame 0 alone gives the same sum as zeros after it
        x = F.linear(layout.gather(feats).to(weight.dtype), weight, self.input_layer.bias)
        x = x + self.pos_embedder(layout).to(x.dtype)
        kept = {0: x}
        for number, block in enumerate(self.blocks, start=1):
            x = block(x, layout.rope, layout.spans)
            if number in hidden_layers:
                kept[number] = x
        x = layout.scatter(x)
        return x, self.post_layernorm(x), tuple(layout.scatter(kept[number]) for number in hidden_layers)
