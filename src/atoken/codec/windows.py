"""Large pictures and frames in spatial tiles: attention stays within windows, so that time is linear in pixels.

The grid of patches is cut into windows of about ``tile`` pixels a side. The encoder sees each window alone, as if it
were a picture; the decoder sees it with the tokens of ``CONTEXT`` patches around it, of which nothing is kept, so that
neighbours fit together. Positions count from the corner of what the network sees. Tokens are stored as those of the
whole grid, and the header names the tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, product
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..core.batching import within_budget
from ..media.patchify import patches_to_frames
from ..media.pixels import to_uint8
from ..nn.packed import Packed, dense_coords
from ..tokens.header import TokenHeader
from ..tokens.patch import PATCH, parts_of
from .quantize import quantize

if TYPE_CHECKING:
    from ..tokenizer.net import TokenizerNet
    from . import EncodeOptions

CONTEXT = 1
"""Patches around a window whose tokens the decoder sees besides its own."""
TOKEN_BUDGET = 16384
"""Tokens that go through the network at once; one larger picture or window still goes alone."""

CPU_BUDGET = 2048
"""The same for windows on the CPU, where larger batches are no faster (measured with nano) and need their memory."""


class Window(NamedTuple):
    """Patches of a grid: rows ``top`` ... ``bottom - 1``, columns ``left`` ... ``right - 1``."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.bottom - self.top, self.right - self.left

    @property
    def pixels(self) -> tuple[slice, slice]:
        """Its rows and columns of pixels."""
        rows = slice(self.top * PATCH[1], self.bottom * PATCH[1])
        return rows, slice(self.left * PATCH[2], self.right * PATCH[2])

    def part_of(self, values: Tensor) -> Tensor:
        """What is here of ``values`` [T, R, C, ...]: a view [T, rows, columns, ...]."""
        return values[:, self.top : self.bottom, self.left : self.right]

    def grown(self, rows: int, columns: int) -> Window:
        """With ``CONTEXT`` patches around, as far as the grid of ``rows`` and ``columns`` goes."""
        return Window(
            max(0, self.top - CONTEXT),
            min(rows, self.bottom + CONTEXT),
            max(0, self.left - CONTEXT),
            min(columns, self.right + CONTEXT),
        )

    def within(self, other: Window) -> Window:
        """Counted from the corner of ``other``."""
        return Window(self.top - other.top, self.bottom - other.top, self.left - other.left, self.right - other.left)


def windows_of(grid: Sequence[int], tile: int | None) -> list[Window]:
    """The windows of a grid (t, x, y, z) in rows, nearest to ``tile`` pixels a side; one where ``tile`` is None."""
    rows, columns = (_cuts(patches, tile) for patches in grid[1:3])
    return [Window(*vertical, *horizontal) for vertical, horizontal in product(pairwise(rows), pairwise(columns))]


def _cuts(patches: int, tile: int | None) -> list[int]:
    """Where to cut a row of ``patches``: into equal parts but for rounding."""
    parts = parts_of(patches, tile)
    return [(2 * index * patches + parts) // (2 * parts) for index in range(parts + 1)]


def wanted_tile(model: TokenizerNet, options: EncodeOptions) -> int | None:
    """The tile to encode with: what the options say, else the model's own. Raises ``ValueError`` for a bad one."""
    wanted = model.config.spatial_tile if options.spatial_tile is None else options.spatial_tile
    if wanted is not None and (wanted < 0 or wanted % PATCH[1]):
        raise ValueError(f"spatial_tile is {wanted}: give a multiple of {PATCH[1]} pixels, or 0 for whole pictures")
    return wanted or None


def encode_windows(
    model: TokenizerNet,
    grid: Sequence[int],
    tile: int | None,
    patches_of: Callable[[Window], Tensor],
    options: EncodeOptions,
) -> Tensor:
    """Values [N, ...] of a grid in raster order; ``patches_of`` gives patches [n, 3072] or [n, 768] of a window."""
    steps, rows, columns, _ = grid
    values: Tensor | None = None
    for group in _groups(windows_of(grid, tile), steps, options.token_budget, model.device):
        packed = Packed.cat([(patches_of(window), dense_coords((steps, *window.shape, 1))) for window in group])
        found = quantize(model, model.encode_packed(packed, pool=False).posterior, options)
        if values is None:
            values = found.new_empty(steps, rows, columns, found.shape[1])
        for window, part in zip(group, found.split(packed.lengths), strict=True):
            window.part_of(values).copy_(part.view(steps, *window.shape, -1))
    assert values is not None
    return values.flatten(0, 2)


def decode_windows(
    model: TokenizerNet,
    network: Callable[[Packed, int], Tensor],
    latents: Tensor,
    grid: Sequence[int],
    tile: int | None,
    budget: int = TOKEN_BUDGET,
    most_steps: int | None = None,
) -> Iterator[tuple[Window, Tensor]]:
    """Each window with its patches [t * rows * columns, F], from ``latents`` [N, C] of the grid in raster order.

    ``network`` takes a batch and its number. The batches of grids of up to ``most_steps`` steps have the same windows.
    """
    steps, rows, columns, _ = grid
    raster = latents.view(steps, rows, columns, -1)
    for number, group in enumerate(_groups(windows_of(grid, tile), most_steps or steps, budget, model.device)):
        seen = [window.grown(rows, columns) for window in group]
        packed = Packed.cat([(w.part_of(raster).flatten(0, 2), dense_coords((steps, *w.shape, 1))) for w in seen])
        for window, larger, part in zip(group, seen, network(packed, number).split(packed.lengths), strict=True):
            patches = window.within(larger).part_of(part.view(steps, *larger.shape, -1))
            yield window, patches.reshape(-1, patches.shape[-1])


def decode_frames(
    model: TokenizerNet,
    network: Callable[[Packed, int], Tensor],
    latents: Tensor,
    like: TokenHeader,
    *,
    floats: bool,
    budget: int = TOKEN_BUDGET,
    most_steps: int | None = None,
) -> Tensor:
    """Frames [F, H, W, 3] inside the box of ``like``, all steps of ``latents`` [N, C]; see ``decode_windows``.

    uint8 on the CPU, or with ``floats`` fp32, nominally in [-1, 1], where the model is.
    """
    _, rows, columns, _ = like.grid
    steps = len(latents) // (rows * columns)
    device = model.device if floats else torch.device("cpu")
    canvas: Tensor | None = None
    grid = (steps, rows, columns, 1)
    for window, patches in decode_windows(model, network, latents, grid, like.spatial_tile, budget, most_steps):
        shown = patches.float() if floats else to_uint8(patches)
        frames = patches_to_frames(shown, (steps, *window.shape, 1))
        if canvas is None:
            canvas = frames.new_empty(len(frames), rows * PATCH[1], columns * PATCH[2], 3, device=device)
        vertical, horizontal = window.pixels
        canvas[:, vertical, horizontal] = frames
    assert canvas is not None
    top, left, height, width = like.box
    return canvas[:, top : top + height, left : left + width].contiguous()


def _groups(windows: Sequence[Window], steps: int, budget: int, device: torch.device) -> Iterator[list[Window]]:
    """Neighbouring windows of at most ``budget`` tokens together; a larger one goes alone."""
    budget = min(budget, CPU_BUDGET) if device.type == "cpu" else budget
    return within_budget(windows, lambda window: steps * window.shape[0] * window.shape[1], budget)
