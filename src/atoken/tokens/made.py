"""Tokens that were made elsewhere, by a generator for example: their numbers and the facts that decoding needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..nn.fsq import FSQ, check_indices
from ..nn.packed import dense_coords
from .checks import FLOATS, check_fps
from .patch import PATCH, spatial_tile_of

Offset = int | Sequence[int]


class Model(Protocol):
    """What tokens need to know of the model that decodes them."""

    @property
    def config(self) -> Any:
        """Its ``ModelConfig``."""

    @property
    def weights_hash(self) -> str:
        """SHA-256 of its weights."""


def codes_of(indices: Tensor | np.ndarray, config: Any) -> Tensor:
    """Indices [..., G] of any integer dtype as codes uint16 [..., G] on the CPU.

    Raises ``ValueError`` for another dtype, another number of codebooks, an index outside of its codebook, and a model
    of continuous tokens.
    """
    config.check_kind("discrete")
    indices = torch.as_tensor(indices)
    if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        raise ValueError(f"indices must be integers, not {indices.dtype}")
    indices = indices.long().cpu()
    check_indices(indices, FSQ(config.fsq_levels).codebook_sizes)
    return indices.int().to(torch.uint16)


def latents_of(latents: Tensor | np.ndarray, config: Any) -> Tensor:
    """Latents [..., C] of any float dtype, without gradients, where they are.

    Raises ``ValueError`` for another dtype, another number of channels, and a model of discrete tokens.
    """
    config.check_kind("continuous")
    latents = torch.as_tensor(latents).detach()
    if not latents.is_floating_point():
        raise ValueError(f"latents must be floats, not {latents.dtype}")
    if latents.ndim == 0 or latents.shape[-1] != config.latent_channels:
        raise ValueError(f"latents of {config.name!r} are [N, {config.latent_channels}], not {list(latents.shape)}")
    return latents if latents.dtype in FLOATS else latents.float()


def facts_of(
    model: Model,
    kind: str,
    *,
    grid: Sequence[int] | None = None,
    fps: float | None = None,
    coords: Tensor | np.ndarray | None = None,
    spatial_tile: int | None = None,
) -> dict[str, Any]:
    """The header of tokens of ``kind``, and their ``coords``; see ``Tokens.from_indices``. Raises ``ValueError``."""
    config = model.config
    facts = {"kind": kind, "model": config.name, "weights": model.weights_hash, "fsq": config.fsq_levels}
    sides = tuple(map(int, grid)) if isinstance(grid, Sequence) else ()
    if coords is not None:
        return facts | _voxels(config, None if grid is None else sides, fps, torch.as_tensor(coords))
    if not 2 <= len(sides) <= 4 or min(sides) < 1 or sides[3:] not in ((), (1,)):
        raise ValueError(
            f"grid is {grid!r}: (rows, columns) for a picture, (steps, rows, columns) for a clip, coords= for voxels"
        )
    steps, rows, columns = (1, *sides) if len(sides) == 2 else sides[:3]
    size = (rows * PATCH[1], columns * PATCH[2])
    whole = (steps, rows, columns, 1)
    tile = config.spatial_tile if spatial_tile is None else spatial_tile or None
    facts |= {"grid": whole, "size": size, "box": (0, 0, *size), "spatial_tile": spatial_tile_of(whole, tile)}
    if fps is None:
        if steps > 1:
            raise ValueError(f"grid {grid!r} has {steps} steps in time: give fps= of the clip")
        return facts | {"modality": "image", "coords": dense_coords(whole)}
    check_fps(fps)
    times = torch.arange(steps * PATCH[0], dtype=torch.float64) / fps
    return facts | {"modality": "video", "times": times, "coords": dense_coords(whole)}


def _voxels(config: Any, grid: tuple[int, ...] | None, fps: float | None, coords: Tensor) -> dict[str, Any]:
    """The facts of voxels; the size of the views is not known and stands as that of one patch."""
    if fps is not None:
        raise ValueError("coords are those of voxels, and fps of a clip: give one of them")
    if coords.ndim != 2 or coords.shape[1] not in (3, 4) or coords.is_floating_point() or coords.dtype == torch.bool:
        raise ValueError(f"coords are {coords.dtype} {list(coords.shape)}, not integers [N, 3] = (x, y, z)")
    if grid is None:
        if config.gaussians is None:
            raise ValueError(f"{config.name!r} has no Gaussian head that says the grid: give grid=(x, y, z)")
        grid = (config.gaussians.resolution,) * 3
    places = coords if coords.shape[1] == 4 else torch.cat([coords.new_zeros(len(coords), 1), coords], 1)
    size = PATCH[1:]
    return {
        "modality": "3d",
        "grid": grid if len(grid) == 4 else (1, *grid),
        "size": size,
        "box": (0, 0, *size),
        "coords": places.to("cpu", torch.int32),
    }


def first_ids(fsq: Sequence[Sequence[int]], offset: Offset) -> Tensor:
    """Where the ids of each codebook begin, int64 [G]: one after the other from ``offset`` on, or as it says for each.

    Raises ``ValueError`` for another number of offsets than of codebooks, and for negative ones.
    """
    sizes = FSQ(fsq).codebook_sizes
    if isinstance(offset, int | np.integer):
        starts = [int(offset) + sum(sizes[:index]) for index in range(len(sizes))]
    else:
        starts = [int(start) for start in offset]
    if len(starts) != len(sizes) or min(starts) < 0:
        raise ValueError(f"offset is {offset!r}: give one from 0 on, or one for each of {len(sizes)} codebooks")
    return torch.tensor(starts)
