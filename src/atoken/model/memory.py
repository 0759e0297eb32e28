"""The decoder's key/value memory over time tiles: each tile also sees the last steps of the one before."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .layout import Layout, Spans, segment_layout
from .rope import rope_table


@dataclass
class LayerMemory:
    """Keys (after QK norm, before the rotary positions) and values that one layer carries to the next tile."""

    step: TileStep | None = None
    keys: Tensor | None = None
    values: Tensor | None = None

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Put the memory in front of each segment of k, v [N, H, D]; returns keys, values and the keys' rotations."""
        step = self.step
        assert step is not None
        all_k, all_v = k, v
        if self.keys is not None and self.values is not None:
            all_k = torch.cat([self.keys, k])[step.key_order]
            all_v = torch.cat([self.values, v])[step.key_order]
        self.keys, self.values = k[step.keep], v[step.keep]
        return all_k, all_v, step.key_rope


@dataclass(frozen=True)
class TileStep:
    """One time tile of every sample that reaches it: its layout, what enters and leaves the memory."""

    layout: Layout
    spans: Spans
    key_order: Tensor
    """int64 [memory + N], order of (memory, tile) that puts each segment's memory before its tokens."""
    key_rope: Tensor
    keep: Tensor
    """int64, computation index of the tokens that the next tile will see."""


class TileMemory:
    """What the decoder carries from one time tile of ``tile`` latent steps to the next: the last ``cache`` steps."""

    def __init__(self, layers: int, tile: int, cache: int, head_dim: int) -> None:
        self.layers = [LayerMemory() for _ in range(layers)]
        self.tile, self.cache, self.head_dim = tile, cache, head_dim
        self._kept: tuple[Tensor, Tensor] | None = None
        """Sample int64 [M] and position int64 [M, 4] of the remembered tokens; None before the first tile."""

    def next_tile(self, coords: Tensor, steps: Tensor) -> TileStep:
        """Enter the next tile, tokens at coords int [N, 5] and time ``steps`` int64 [N] from the tile's start.

        The first tile starts at t = 0 without a memory; in every later one the memory takes t = 0 ... cache - 1 and
        the tile starts at t = cache.
        """
        tile, cache, sample = self.tile, self.cache, coords[:, 0].long()
        kept_sample, kept_positions = self._kept or (sample[:0], coords[:0, 1:].long())
        time = steps + (cache if self._kept else 0)
        positions = torch.cat([time[:, None], coords[:, 2:].long()], 1)
        layout = segment_layout(sample, positions, self.head_dim)
        owner, local, positions = (layout.gather(x) for x in (sample, steps, positions))

        # Segments keep the layout's order; within one, the stable sort leaves the memory in front.
        names, lengths = torch.unique_consecutive(owner, return_counts=True)
        place = names.new_zeros(int(names.max()) + 1).scatter(0, names, torch.arange(len(names), device=names.device))
        reached = torch.isin(kept_sample, names)
        memory_place = place[torch.where(reached, kept_sample, names[0])].where(reached, len(names))
        everyone = torch.cat([memory_place, place[owner]])
        key_order = everyone.argsort(stable=True)[: int((everyone < len(names)).sum())]
        key_positions = torch.cat([kept_positions, positions])[key_order]
        keys = torch.bincount(everyone, minlength=len(names))[: len(names)]

        keep = (local >= tile - cache).nonzero()[:, 0] if cache else local.new_zeros(0)
        shifted = local[keep] - (tile - cache)
        self._kept = owner[keep], torch.cat([shifted[:, None], positions[keep, 1:]], 1)
        step = TileStep(
            layout=layout,
            spans=Spans.of(lengths.tolist(), keys.tolist(), coords.device),
            key_order=key_order,
            key_rope=rope_table(key_positions, self.head_dim),
            keep=keep,
        )
        for layer in self.layers:
            layer.step = step
        return step
