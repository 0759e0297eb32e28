"""Keys and values that are kept from one call of a network to the next: of the last steps, or of all tokens so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .layout import Layout, Spans, segment_layout
from .rope import rope_table


@dataclass
class LayerCache:
    """Keys (after QK norm) and values [M, H, D] that one layer carries from call to call."""

    keys: Tensor | None = None
    values: Tensor | None = None

    def extend(self, k: Tensor, v: Tensor, step: CacheStep) -> tuple[Tensor, Tensor]:
        """Put what is cached in front of each segment of k, v [N, H, D], and keep what ``step`` says."""
        all_k, all_v = k, v
        if self.keys is not None and self.values is not None:
            all_k = torch.cat([self.keys, k])[step.key_order]
            all_v = torch.cat([self.values, v])[step.key_order]
        self.keys, self.values = (all_k, all_v) if step.keep is None else (k[step.keep], v[step.keep])
        return all_k, all_v


@dataclass(frozen=True)
class CacheStep:
    """What one call needs to know of the cache, the same for all layers."""

    spans: Spans
    """Queries and keys of each segment, cached ones included."""
    key_order: Tensor
    """int64 [M + N], order of (cached, new) that puts each segment's cached keys before its new ones."""
    key_rope: Tensor | None = None
    """Rotations of all keys, complex64 [M + N, 1, D/2]; None where keys are cached rotated."""
    keep: Tensor | None = None
    """int64, the new tokens that the next call will see; None to keep all keys, cached and new."""


class KVCache:
    """All keys and values so far of a causal network, for any number of segments that grow at their own pace.

    ``step = cache.append(lengths)`` announces the new tokens of each segment; then every layer is called with
    ``(cache.layers[i], step)``, ``step.spans`` and ``causal=True``. The results are those of one call on the whole.
    """

    def __init__(self, layers: int) -> None:
        self.layers = [LayerCache() for _ in range(layers)]
        self.lengths: list[int] = []
        """Cached tokens of each segment."""

    def append(self, lengths: Sequence[int], device: torch.device | str = "cpu") -> CacheStep:
        """Enter ``lengths`` new tokens of each segment, which lie packed one segment after the other.

        Raises ``ValueError`` for another number of segments than before, or a segment without a new token.
        """
        before = self.lengths or [0] * len(lengths)
        if len(lengths) != len(before) or min(lengths, default=0) < 1:
            raise ValueError(f"the cache holds {len(before)} segments, which need 1 or more new tokens each: {lengths}")
        names = torch.arange(len(lengths))
        owner = torch.cat([names.repeat_interleave(torch.tensor(part)) for part in (before, list(lengths))])
        self.lengths = [old + new for old, new in zip(before, lengths, strict=True)]
        spans = Spans.of(list(lengths), self.lengths, torch.device(device))
        return CacheStep(spans, owner.argsort(stable=True).to(device))


@dataclass(frozen=True, kw_only=True)
class TileStep(CacheStep):
    """One time tile of every sample that reaches it: what enters and leaves the cache, and the tile's layout."""

    layout: Layout


class TileMemory:
    """What the decoder carries from one time tile of ``tile`` latent steps to the next: the last ``cache`` steps."""

    def __init__(self, layers: int, tile: int, cache: int, head_dim: int) -> None:
        self.layers = [LayerCache() for _ in range(layers)]
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
        return TileStep(
            layout=layout,
            spans=Spans.of(lengths.tolist(), keys.tolist(), coords.device),
            key_order=key_order,
            key_rope=rope_table(key_positions, self.head_dim),
            keep=keep,
        )
