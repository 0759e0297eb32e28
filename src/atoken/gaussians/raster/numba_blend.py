"""Blending sorted splats into pixels by compiled loops on all CPU cores: the same numbers as ``blend``, much faster."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from .project import ALPHA_MIN, Splats
from .torch_blend import ALPHA_MAX, TILE, TRANSMITTANCE_MIN

SHARES = 4
"""Pieces of the work for each thread, as tiles cost very different times."""
KERNEL: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


def blend(splats: Splats, height: int, width: int) -> Tensor:
    """See ``blend.blend``."""
    tensors = (splats.means, splats.conics, splats.opacities, splats.colours, splats.extents)
    return _Blend.apply(*(tensor.contiguous() for tensor in tensors), height, width)


class _Blend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, means: Tensor, conics: Tensor, opacities: Tensor, *rest: Any) -> Tensor:
        colours, extents, height, width = rest
        tensors = (means, conics, opacities, colours, extents)
        arrays = [tensor.detach().numpy() for tensor in tensors]
        starts, lists = _sort_into_tiles(arrays[0], arrays[4], height, width)
        picture = np.zeros((height, width, colours.shape[1]))
        _on_all_cores(len(starts) - 1, _blend_tiles, *arrays, starts, lists, picture)
        ctx.save_for_backward(*tensors)
        ctx.tiles, ctx.picture = (starts, lists), picture
        return torch.from_numpy(picture).to(means.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        arrays = [tensor.detach().numpy() for tensor in ctx.saved_tensors]
        starts, lists = ctx.tiles
        channels = arrays[3].shape[1]
        parts = np.zeros((len(lists), 6 + channels))
        gradient = gradients[0].contiguous().numpy()
        _on_all_cores(len(starts) - 1, _blend_tiles_backward, *arrays, starts, lists, ctx.picture, gradient, parts)
        sums = np.zeros((len(arrays[0]), 6 + channels))
        _gather(lists, parts, sums)
        result = torch.from_numpy(sums).to(gradients[0].dtype)
        return result[:, :2], result[:, 2:5], result[:, 5], result[:, 6:], None, None, None


def _on_all_cores(tiles: int, kernel: Callable[..., None], *arrays: Any) -> None:
    """Run ``kernel(first, last, *arrays)`` over all tiles by as many threads as torch uses.

    Threads of our own, as numba's parallel loops end a forked child of a process that ran one (GNU OpenMP), and bear no
    two at once. The kernels hold no lock of Python.
    """
    threads = min(torch.get_num_threads(), tiles)
    if threads < 2:
        kernel(0, tiles, *arrays)
        return
    ends = np.linspace(0, tiles, min(tiles, SHARES * threads) + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(kernel, first, last, *arrays) for first, last in pairwise(ends)]:
            done.result()


@numba.njit(**KERNEL)
def _tile_range(centre, extent, tiles):
    """First and last-but-one tile that [centre - extent, centre + extent] touches along one axis."""
    first = max(0, math.floor((centre - extent) / TILE))
    last = min(tiles, math.floor((centre + extent) / TILE) + 1)
    return first, last


@numba.njit(**KERNEL)
def _sort_into_tiles(means, extents, height, width):
    """For each tile the splats that touch it, in their order: starts int64 [tiles + 1] into lists int32 [P]."""
    rows, columns = -(-height // TILE), -(-width // TILE)
    starts = np.zeros(rows * columns + 1, np.int64)
    for splat in range(len(means)):
        left, right = _tile_range(means[splat, 0], extents[splat, 0], columns)
        top, bottom = _tile_range(means[splat, 1], extents[splat, 1], rows)
        for row in range(top, bottom):
            for column in range(left, right):
                starts[row * columns + column + 1] += 1
    starts = np.cumsum(starts)
    at, lists = starts[:-1].copy(), np.empty(starts[-1], np.int32)
    for splat in range(len(means)):
        left, right = _tile_range(means[splat, 0], extents[splat, 0], columns)
        top, bottom = _tile_range(means[splat, 1], extents[splat, 1], rows)
        for row in range(top, bottom):
            for column in range(left, right):
                lists[at[row * columns + column]] = splat
                at[row * columns + column] += 1
    return starts, lists


@numba.njit(**KERNEL)
def _row_range(means, extents, splat, top, bottom):
    """The rows of a tile that a splat can touch."""
    first = max(top, math.floor(means[splat, 1] - extents[splat, 1]))
    last = min(bottom, math.floor(means[splat, 1] + extents[splat, 1]) + 1)
    return first, last


@numba.njit(**KERNEL)
def _column_range(means, conics, opacities, splat, dy, left, right):
    """The columns of a tile that a splat touches in the row ``dy`` below its mean, with a margin for rounding."""
    reach = 2 * math.log(opacities[splat] / ALPHA_MIN)  # largest d' conic d
    slope = conics[splat, 1] * dy
    root = slope * slope - conics[splat, 0] * (conics[splat, 2] * dy * dy - reach)
    if root < 0:
        return 0, 0
    centre, half = means[splat, 0] - slope / conics[splat, 0], math.sqrt(root) / conics[splat, 0] + 0.5
    return max(left, math.floor(centre - half)), min(right, math.floor(centre + half) + 1)


@numba.njit(inline="always")
def _falloff(conics, splat, dx, dy):
    xx, xy, yy = conics[splat]
    return math.exp(-(xx * dx * dx + yy * dy * dy) / 2 - xy * dx * dy)


@numba.njit(**KERNEL)
def _blend_tiles(begin, end, means, conics, opacities, colours, extents, starts, lists, picture):
    height, width, channels = picture.shape
    columns = -(-width // TILE)
    for tile in range(begin, end):
        top, left = tile // columns * TILE, tile % columns * TILE
        bottom, right = min(top + TILE, height), min(left + TILE, width)
        through, clear = np.ones((TILE, TILE)), (bottom - top) * (right - left)
        for at in range(starts[tile], starts[tile + 1]):
            if clear == 0:
                break
            splat = lists[at]
            first, last = _row_range(means, extents, splat, top, bottom)
            for row in range(first, last):
                dy = row + 0.5 - means[splat, 1]
                first_column, end_column = _column_range(means, conics, opacities, splat, dy, left, right)
                for column in range(first_column, end_column):
                    light = through[row - top, column - left]
                    alpha = opacities[splat] * _falloff(conics, splat, column + 0.5 - means[splat, 0], dy)
                    if alpha < ALPHA_MIN or light < TRANSMITTANCE_MIN:
                        continue
                    alpha = min(alpha, ALPHA_MAX)
                    for channel in range(channels):
                        picture[row, column, channel] += light * alpha * colours[splat, channel]
                    through[row - top, column - left] = light * (1 - alpha)
                    clear -= light * (1 - alpha) < TRANSMITTANCE_MIN


@numba.njit(**KERNEL)
def _blend_tiles_backward(
    begin, end, means, conics, opacities, colours, extents, starts, lists, picture, gradient, parts
):
    """Gradients of every splat in every tile, [P, 6 + C]: mean, conic, opacity, colour.

    Front to back once more: what lies behind a splat is the whole picture less what was blended so far.
    """
    height, width, channels = picture.shape
    columns = -(-width // TILE)
    for tile in range(begin, end):
        top, left = tile // columns * TILE, tile % columns * TILE
        bottom, right = min(top + TILE, height), min(left + TILE, width)
        through, clear = np.ones((TILE, TILE)), (bottom - top) * (right - left)
        behind = np.zeros((TILE, TILE))  # gradient * colour of what is not blended yet
        for row in range(top, bottom):
            for column in range(left, right):
                for channel in range(channels):
                    product = picture[row, column, channel] * gradient[row, column, channel]
                    behind[row - top, column - left] += product
        for at in range(starts[tile], starts[tile + 1]):
            if clear == 0:
                break
            splat, part = lists[at], parts[at]
            first, last = _row_range(means, extents, splat, top, bottom)
            for row in range(first, last):
                dy = row + 0.5 - means[splat, 1]
                first_column, end_column = _column_range(means, conics, opacities, splat, dy, left, right)
                for column in range(first_column, end_column):
                    light = through[row - top, column - left]
                    dx = column + 0.5 - means[splat, 0]
                    falloff = _falloff(conics, splat, dx, dy)
                    alpha = opacities[splat] * falloff
                    if alpha < ALPHA_MIN or light < TRANSMITTANCE_MIN:
                        continue
                    free = alpha < ALPHA_MAX
                    alpha = min(alpha, ALPHA_MAX)
                    own = 0.0
                    for channel in range(channels):
                        own += colours[splat, channel] * gradient[row, column, channel]
                        part[6 + channel] += light * alpha * gradient[row, column, channel]
                    behind[row - top, column - left] -= light * alpha * own
                    through[row - top, column - left] = light * (1 - alpha)
                    clear -= light * (1 - alpha) < TRANSMITTANCE_MIN
                    if free:
                        slope = light * own - behind[row - top, column - left] / (1 - alpha)
                        part[5] += slope * falloff
                        slope *= alpha
                        part[0] += slope * (conics[splat, 0] * dx + conics[splat, 1] * dy)
                        part[1] += slope * (conics[splat, 1] * dx + conics[splat, 2] * dy)
                        part[2] -= slope * dx * dx / 2
                        part[3] -= slope * dx * dy
                        part[4] -= slope * dy * dy / 2


@numba.njit(**KERNEL)
def _gather(lists, parts, sums):
    """Add up what each splat got in all its tiles."""
    for at in range(len(lists)):
        for channel in range(parts.shape[1]):
            sums[lists[at], channel] += parts[at, channel]
