"""Tokens in one sparse 4D space: a packed batch for the network, and one source's tokens for people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.equal import equal_fields
from ..nn.fsq import FSQ, check_indices
from .checks import check_coords, check_count, check_values
from .header import TokenHeader
from .made import Model, Offset, codes_of, facts_of, first_ids, latents_of


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

    @classmethod
    def from_indices(
        cls,
        indices: Tensor | np.ndarray,
        *,
        model: Model,
        grid: Sequence[int] | None = None,
        fps: float | None = None,
        coords: Tensor | np.ndarray | None = None,
        spatial_tile: int | None = None,
    ) -> Tokens:
        """Discrete tokens that were made elsewhere, for ``model`` to decode: indices [N, G] of any integer dtype.

        ``grid`` is (rows, columns) of a picture, or (steps, rows, columns) of a clip of ``fps`` frames a second, both
        in row-major order. ``coords`` [N, 3] = (x, y, z) are those of voxels, on the grid of the model's Gaussian head
        unless ``grid`` says otherwise. ``spatial_tile`` is as in ``AToken.encode``. Raises ``ValueError`` for an index
        outside of its codebook, and for what does not fit the grid.
        """
        facts = facts_of(model, "discrete", grid=grid, fps=fps, coords=coords, spatial_tile=spatial_tile)
        return cls(values=codes_of(indices, model.config), **facts)

    @classmethod
    def from_latents(cls, latents: Tensor | np.ndarray, *, model: Model, **geometry: Any) -> Tokens:
        """Continuous tokens that were made elsewhere: latents [N, C] of any float dtype. See ``from_indices``."""
        return cls(values=latents_of(latents, model.config), **facts_of(model, "continuous", **geometry))

    @classmethod
    def from_ids(cls, ids: Tensor | np.ndarray, *, model: Model, offset: Offset = 0, **geometry: Any) -> Tokens:
        """The inverse of ``to_ids``: integers [N, G]; ``geometry`` is that of ``from_indices``.

        Raises ``ValueError`` for an id outside of its codebook.
        """
        fsq = model.config.fsq_levels
        starts, ids = first_ids(fsq, offset), torch.as_tensor(ids).long().cpu()
        check_indices(ids, FSQ(fsq).codebook_sizes, starts.tolist())
        return cls.from_indices(ids - starts, model=model, **geometry)

    def to_ids(self, offset: Offset = 0) -> Tensor:
        """Codes as entries of one vocabulary, int64 [N, G]: those of a codebook follow those of the one before.

        ``offset`` is the first id of the first codebook, or a list of the first ids of all. Raises ``ValueError`` for
        continuous tokens.
        """
        return self.codes.long() + first_ids(self.fsq, offset)

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
        from .file import write_tokens

        write_tokens(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Tokens:
        """Read a ``.atok`` file. Raises ``ReadError`` for a file that is damaged, newer, not ours or contradictory."""
        from .file import read_tokens

        return read_tokens(Path(path))
