"""The decoder: packed latents to packed patches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn.block import Block
from ..nn.cache import LayerCache, TileMemory, TileStep
from ..nn.layout import Layout, tile_of
from ..nn.norm import RMSNorm
from ..nn.packed import Packed
from ..nn.position import PositionTable
from ..tokens.patch import PATCH_FEATURES
from .config import ModelConfig


class Decoder(nn.Module):
    """Latent embedding, positions, transformer blocks, a final RMSNorm and a linear layer to pixels."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.pos_embedder = PositionTable(config.table_size, width)
        self.input_layer = nn.Linear(config.latent_channels, width, bias=False)
        self.blocks = nn.ModuleList(
            Block(width, config.heads, config.mlp_width, decoder=True, rope=config.rope, gelu=config.gelu)
            for _ in range(config.decoder_depth)
        )
        self.out_norm = RMSNorm(width) if config.output_norm else nn.Identity()
        self.out_layer = nn.Linear(width, PATCH_FEATURES, bias=False)

    def forward(self, packed: Packed, features: int = PATCH_FEATURES) -> Tensor:
        """Latents, feats [N, C] -> the first ``features`` numbers of each patch, [N, features]."""
        config = self.config
        if config.decoder_cache:
            return self._decode_with_memory(packed.feats, packed.coords, features)
        layout = packed.layout(config.decoder_tile, config.head_dim)
        return layout.scatter(self._decode(layout.gather(packed.feats), layout, features))

    def new_memory(self) -> TileMemory:
        """An empty memory, for ``decode_tile`` from the first tile on."""
        config = self.config
        return TileMemory(len(self.blocks), config.decoder_tile, config.decoder_cache, config.head_dim)

    def decode_tile(self, latents: Tensor, coords: Tensor, steps: Tensor, memory: TileMemory, features: int) -> Tensor:
        """The next time tile of every sample: latents [N, C] at coords int [N, 5], time ``steps`` int64 [N] in it."""
        step = memory.next_tile(coords, steps)
        layout = step.layout
        return layout.scatter(self._decode(layout.gather(latents), layout, features, memory.layers, step))

    def _decode(
        self,
        latents: Tensor,
        layout: Layout,
        features: int,
        caches: Sequence[LayerCache] = (),
        step: TileStep | None = None,
    ) -> Tensor:
        """Latents [N, C] to patches [N, features], both in the layout's order."""
        x = self.input_layer(latents.to(self.input_layer.weight.dtype))
        x = x + self.pos_embedder(layout).to(x.dtype)
        for index, block in enumerate(self.blocks):
            if step is None:
                x = block(x, layout.rope, layout.spans)
            else:
                x = block(x, layout.rope, step.spans, (caches[index], step))
        return F.linear(self.out_norm(x), self.out_layer.weight[:features])

    def _decode_with_memory(self, latents: Tensor, coords: Tensor, features: int) -> Tensor:
        memory = self.new_memory()
        tiles, steps = tile_of(coords, self.config.decoder_tile)
        tokens = [(tiles == index).nonzero()[:, 0] for index in range(int(tiles.max()) + 1)]
        patches = [self.decode_tile(latents[t], coords[t], steps[t], memory, features) for t in tokens]
        return torch.cat(patches)[torch.cat(tokens).argsort()]
