"""Tokens in one sparse 4D space: a packed batch for the network, and one source's tokens for people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checks import check_coords, check_count, check_values
from .core.equal import equal_fields
from .header import TokenHeader
from .model.fsq import FSQ
from .model.layout import Layout, build_layout


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

    __hash__ = None  # type: ignore[assignment]

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
    return torch.cartesian_prod(*(torch.arange(n, dtype=torch.int32) for n in grid)).view(-1, 4)


def as_latents(kind: str, values: Tensor, fsq: tuple[tuple[int, ...], ...]) -> Tensor:
    """The numbers [N, C] behind stored values: latents themselves, or FSQ codes [N, G]."""
    return FSQ(fsq).indices_to_codes(values) if kind == "discrete" else values


@dataclass(frozen=True, kw_only=True, eq=False)
class Tokens(TokenHeader):
    """The tokens of one source, with all that is needed to decode them; ``save`` and ``load`` are exact inverses.

    Raises ``ValueError`` with one sentence where anything is malformed or two fields contradict each other.
    """

    values: Tensor
    """Latents, finite float [N, C] (kind "continuous"), or codes, uint16 [N, G] (kind "discrete")."""
    coords: Tensor
    """int32 [N, 4] = (t, x, y, z) on the CPU; for images and videos the whole grid in row-major order."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self.values, self.kind, self.fsq)
        check_count(self, len(self.values))
        check_coords(self, self.coords, len(self.values))

    def __eq__(self, other: object) -> bool:
        """Whether all fields are equal, tensors by dtype and by value."""
        return equal_fields(self, other)

    __hash__ = None  # type: ignore[assignment]

    @property
    def codes(self) -> Tensor:
        """Discrete codes, uint16 [N, G]; raises ``ValueError`` for continuous tokens."""
        if self.kind != "discrete":
            raise ValueError('continuous tokens have no codes; encode with kind="discrete"')
        return self.values

    @property
    def latents(self) -> Tensor:
        """What the decoder reads, float [N, C]: the latents themselves, or the quantized numbers behind the codes."""
        return as_latents(self.kind, self.values, self.fsq)

    def __len__(self) -> int:
        return len(self.values)

    def half(self) -> Tokens:
        """The same tokens with latents in float16, as ``atoken encode`` stores them; codes stay as they are.

        Raises ``ValueError`` for latents that are too large for float16.
        """
        if self.kind == "discrete":
            return self
        largest = float(self.values.abs().max())
        if largest > torch.finfo(torch.float16).max:
            raise ValueError(f"latents up to {largest:.4g} do not fit into float16: store them as they are")
        return replace(self, values=self.values.half())

    def latent_steps(self, first: int = 0) -> Iterator[Tensor]:
        """Latents of each step in time from ``first`` on, float [x * y * z, C]."""
        steps, size = self.grid[0], math.prod(self.grid[1:])
        if len(self) != steps * size:
            raise ValueError(f"{len(self)} tokens do not fill the grid {self.grid}: only whole grids go step by step")
        for index in range(first, steps):
            yield as_latents(self.kind, self.values[index * size : (index + 1) * size], self.fsq).float()

    def save(self, path: str | Path) -> None:
        """Write a ``.atok`` file (docs/tokens.md), atomically.

        Raises ``OSError`` where it cannot be written and ``ValueError`` where the tokens contradict themselves.
        """
        from .atok import write_tokens

        write_tokens(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Tokens:
        """Read a ``.atok`` file. Raises ``ReadError`` for a file that is damaged, newer, not ours or contradictory."""
        from .atok import read_tokens

        return read_tokens(Path(path))
