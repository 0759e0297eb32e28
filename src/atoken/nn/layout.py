"""What coordinates alone decide, computed once per batch: order, segment lengths, rotary and position indices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor

from .rope import rope_table


@dataclass(frozen=True)
class Spans:
    """Which queries see which keys: runs of ``(count, queries, keys)``, each ``count`` equal segments in a row.

    Queries and keys lie packed in the order of the runs. One run means one dense attention call.
    """

    runs: tuple[tuple[int, int, int], ...]
    device: torch.device

    @classmethod
    def of(cls, queries: list[int], keys: list[int], device: torch.device) -> Spans:
        """Join neighbouring segments of equal lengths."""
        runs = groupby(zip(queries, keys, strict=True))
        return cls(tuple((len(list(group)), q, k) for (q, k), group in runs), device)

    @cached_property
    def cumulative(self) -> tuple[Tensor, Tensor, int, int]:
        """Cumulative query and key lengths (int32 [S + 1]) and the longest of each, for variable-length kernels."""
        queries = [q for count, q, _ in self.runs for _ in range(count)]
        keys = [k for count, _, k in self.runs for _ in range(count)]
        both = torch.tensor([[0, 0], *zip(queries, keys, strict=True)]).cumsum(0).to(self.device, torch.int32)
        return both[:, 0].contiguous(), both[:, 1].contiguous(), max(queries), max(keys)


@dataclass(frozen=True)
class Layout:
    """Tokens of a batch in computation order: segments sorted by length, so that equal lengths share one call."""

    order: Tensor | None
    """int64 [N], the input index of each token in computation order; None where both orders agree."""
    inverse: Tensor | None
    """int64 [N], the computation index of each input token; None where both orders agree."""
    spans: Spans
    rope: Tensor
    """complex64 [N, 1, D/2], time counted from the start of the tile."""
    grids: tuple[tuple[int, int], ...]
    """The distinct (rows, columns) of the segments."""
    grid_index: Tensor
    """int64 [N], row of the concatenated resized position tables."""

    def gather(self, x: Tensor) -> Tensor:
        """Input order to computation order."""
        return x if self.order is None else x[self.order]

    def scatter(self, x: Tensor) -> Tensor:
        """Computation order back to input order."""
        return x if self.inverse is None else x[self.inverse]


def tile_of(coords: Tensor, tile: int) -> tuple[Tensor, Tensor]:
    """Time tile and time step inside it, both int64 [N], counting from the first step of each sample."""
    sample, t = coords[:, 0].long(), coords[:, 1].long()
    start = torch.full((int(sample[-1]) + 1,), torch.iinfo(torch.int64).max, device=coords.device)
    start = start.scatter_reduce(0, sample, t, "amin")
    t = t - start[sample]
    return t // tile, t % tile


def build_layout(coords: Tensor, tile: int, head_dim: int) -> Layout:
    """Layout of tokens at integer coords [N, 5] = (sample, t, x, y, z), samples in ascending order.

    One segment is one sample in one time tile of ``tile`` latent steps. Costs one host synchronisation per batch.
    """
    tiles, steps = tile_of(coords, tile)
    positions = torch.cat([steps[:, None], coords[:, 2:].long()], 1)
    key = coords[:, 0].long() * (tiles.max() + 1) + tiles
    return segment_layout(key, positions, head_dim)


def segment_layout(key: Tensor, positions: Tensor, head_dim: int) -> Layout:
    """Layout of tokens at ``positions`` int64 [N, 4] whose segment is named by ``key`` int64 [N]."""
    _, segment, lengths = torch.unique(key, return_inverse=True, return_counts=True)
    extent = positions.new_zeros(len(lengths), 2)
    extent = extent.scatter_reduce(0, segment[:, None].expand(-1, 2), positions[:, 1:3], "amax") + 1
    stats = torch.cat([lengths[:, None], extent], 1).tolist()

    ranked = sorted(range(len(stats)), key=lambda s: (stats[s][0], s))
    rank = torch.tensor(ranked).argsort().to(key.device)[segment]
    ordered = bool((rank[1:] >= rank[:-1]).all())
    order = None if ordered else rank.argsort(stable=True)

    grids = sorted({(rows, columns) for _, rows, columns in stats})
    starts, total = {}, 0
    for grid in grids:
        starts[grid], total = total, total + grid[0] * grid[1]
    start = torch.tensor([starts[rows, columns] for _, rows, columns in stats], device=key.device)
    grid_index = start[segment] + positions[:, 1] * extent[segment, 1] + positions[:, 2]

    lengths_in_order = [stats[s][0] for s in ranked]
    return Layout(
        order=order,
        inverse=None if order is None else order.argsort(),
        spans=Spans.of(lengths_in_order, lengths_in_order, key.device),
        rope=rope_table(positions if order is None else positions[order], head_dim),
        grids=tuple(grids),
        grid_index=grid_index if order is None else grid_index[order],
    )
