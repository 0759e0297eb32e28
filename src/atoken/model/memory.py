"""The decoder's key/value memory over time tiles: each tile also sees the last steps of the one before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .layout import Layout, Spans, segment_layout, tile_of
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
    """One time tile of every sample that reaches it: its tokens, their layout, what enters and leaves the memory."""

    tokens: Tensor
    """int64, input index of the tile's tokens."""
    layout: Layout
    spans: Spans
    key_order: Tensor
    """int64 [memory + N], order of (memory, tile) that puts each segment's memory before its tokens."""
    key_rope: Tensor
    keep: Tensor
    """int64, computation index of the tokens that the next tile will see."""


def tile_steps(coords: Tensor, tile: int, cache: int, head_dim: int) -> Iterator[TileStep]:
    """Time tiles of ``tile`` latent steps, each seeing the last ``cache`` steps of the one before.

    coords int [N, 5]. The first tile starts at t = 0 without a memory; in every later one the memory takes
    t = 0 ... cache - 1 and the tile starts at t = cache.
    """
    tiles, steps = tile_of(coords, tile)
    sample = coords[:, 0].long()
    kept_sample, kept_positions = sample[:0], coords[:0, 1:].long()
    for index in range(int(tiles.max()) + 1):
        tokens = (tiles == index).nonzero()[:, 0]
        time = steps[tokens] + (cache if index else 0)
        positions = torch.cat([time[:, None], coords[tokens, 2:].long()], 1)
        layout = segment_layout(sample[tokens], positions, head_dim)
        owner, local, positions = (layout.gather(x) for x in (sample[tokens], steps[tokens], positions))

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
        yield TileStep(
            tokens=tokens,
            layout=layout,
            spans=Spans.of(lengths.tolist(), keys.tolist(), coords.device),
            key_order=key_order,
            key_rope=rope_table(key_positions, head_dim),
            keep=keep,
        )
        kept_sample = owner[keep]
        shifted = local[keep] - (tile - cache)
        kept_positions = torch.cat([shifted[:, None], positions[keep, 1:]], 1)
