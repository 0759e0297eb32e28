"""A batch of tokens of any lengths without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from ..core.equal import equal_fields
from .layout import Layout, build_layout


@dataclass(frozen=True, eq=False)
class Packed:
    """A batch without padding: ``feats`` [N, C] at ``coords`` int [N, 5] = (sample, t, x, y, z).

    For pictures x is the patch row and y the patch column. Samples are contiguous and numbered from 0.
    Raises ``ValueError`` where shapes, dtypes or the numbering do not fit.
    """

    feats: Tensor
    coords: Tensor

    def __post_init__(self) -> None:
        feats, coords = self.feats, self.coords
        if feats.ndim != 2 or coords.ndim != 2 or coords.shape[1] != 5 or len(feats) != len(coords):
            raise ValueError(
                f"packed tokens need feats [N, C] and coords [N, 5], not {list(feats.shape)} and {list(coords.shape)}"
            )
        if not feats.is_floating_point() or coords.is_floating_point() or coords.dtype == torch.bool:
            raise ValueError(f"packed tokens need float feats and integer coords, not {feats.dtype}, {coords.dtype}")
        if len(coords) == 0:
            raise ValueError("packed tokens are empty")
        steps = coords[1:, 0] - coords[:-1, 0]
        if bool((coords.amin() < 0) | (coords[0, 0] != 0) | ((steps != 0) & (steps != 1)).any()):
            raise ValueError("coords must not be negative, and samples must be contiguous and numbered from 0")

    def __eq__(self, other: object) -> bool:
        """Whether feats and coords are equal, in dtype and in value."""
        return equal_fields(self, other)

    @classmethod
    def cat(cls, samples: Sequence[tuple[Tensor, Tensor]]) -> Packed:
        """Join samples given as (feats [n, C], coords int [n, 4] = (t, x, y, z))."""
        index = torch.cat([torch.full((len(c), 1), i, dtype=c.dtype) for i, (_, c) in enumerate(samples)])
        coords = torch.cat([c.cpu() for _, c in samples])
        feats = [f for f, _ in samples]
        return cls(feats[0] if len(feats) == 1 else torch.cat(feats), torch.cat([index, coords], 1))

    def to(self, device: torch.device | str) -> Packed:
        """The same batch on another device; the copy from pinned memory waits for nothing."""
        feats, coords = (tensor.to(device, non_blocking=tensor.is_pinned()) for tensor in (self.feats, self.coords))
        if feats is self.feats and coords is self.coords:
            return self
        return self._like(
            feats, coords, {name: vars(self)[name] for name in ("lengths", "extents") if name in vars(self)}
        )

    def with_feats(self, feats: Tensor) -> Packed:
        """Other numbers [N, C] for the same tokens: what coordinates decide is neither checked nor computed again.

        Raises ``ValueError`` for another number of tokens.
        """
        if feats.ndim != 2 or len(feats) != len(self.coords):
            raise ValueError(f"{len(self.coords)} tokens need feats [{len(self.coords)}, C], not {list(feats.shape)}")
        return self._like(feats, self.coords, {"_layouts": self._layouts, **vars(self)})

    def _like(self, feats: Tensor, coords: Tensor, known: dict[str, Any]) -> Packed:
        packed = object.__new__(Packed)
        vars(packed).update(known | {"feats": feats, "coords": coords})
        return packed

    def layout(self, tile: int, head_dim: int) -> Layout:
        """The layout for time tiles of ``tile`` latent steps, computed once."""
        key = (tile, head_dim)
        if key not in self._layouts:
            with torch.inference_mode(False):  # a later pass may want gradients
                self._layouts[key] = build_layout(self.coords, tile, head_dim)
        return self._layouts[key]

    @cached_property
    def _layouts(self) -> dict[tuple[int, int], Layout]:
        return {}

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each sample."""
        return torch.bincount(self.coords[:, 0].long()).tolist()

    @cached_property
    def extents(self) -> list[tuple[int, int]]:
        """Patch rows and columns of each sample, counted from the origin."""
        ends = self.coords.new_zeros(len(self.lengths), 2)
        ends = ends.scatter_reduce(0, self.coords[:, :1].long().expand(-1, 2), self.coords[:, 2:4], "amax") + 1
        return [(rows, columns) for rows, columns in ends.tolist()]


def dense_coords(grid: Sequence[int]) -> Tensor:
    """All coordinates of a (t, x, y, z) grid in row-major order: int32 [t * x * y * z, 4]."""
    return _dense_coords(tuple(grid)).clone()


@lru_cache(maxsize=8)  # neighbours have one grid, and each is compared with it
def _dense_coords(grid: tuple[int, ...]) -> Tensor:
    return torch.cartesian_prod(*(torch.arange(n, dtype=torch.int32) for n in grid)).view(-1, 4)
