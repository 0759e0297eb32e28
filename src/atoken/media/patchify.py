"""Pictures and frames as patches and back: nothing is cropped, and padding is remembered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..nn.packed import dense_coords
from ..tokens.patch import FRAME_FEATURES, PATCH
from .pixels import from_uint8

ONE_FRAME = (1, *PATCH[1:])
"""Frames, rows and columns of what a picture fills of a patch."""


def patchify(frames: Tensor, size: tuple[int, int, int] = PATCH) -> Tensor:
    """Frames [..., T, H, W, 3] of any dtype -> patches [..., t, R, C, F], each (frame, row, column, RGB) of ``size``.

    Where the sides are no whole patches, the last frame, row and column are repeated.
    """
    for axis, whole in zip((-4, -3, -2), size, strict=True):
        count = frames.shape[axis]
        if missing := -count % whole:
            last = frames.narrow(axis, count - 1, 1)
            frames = torch.cat([frames, last.repeat_interleave(missing, axis)], axis)
    blocks = frames.unflatten(-4, (-1, size[0])).unflatten(-3, (-1, size[1])).unflatten(-2, (-1, size[2]))
    return blocks.movedim((-5, -3), (-6, -5)).flatten(-4)  # [..., t, f, R, h, C, w, 3] -> [..., t, R, C, f, h, w, 3]


def unpatchify(patches: Tensor, size: tuple[int, int, int] = PATCH) -> Tensor:
    """The inverse of ``patchify`` but for the padding: patches [..., t, R, C, F] -> frames [..., T, H, W, 3]."""
    *lead, steps, rows, columns, _ = patches.shape
    blocks = patches.unflatten(-1, (*size, 3)).movedim((-6, -5), (-5, -3))  # [..., t, f, R, h, C, w, 3]
    return blocks.reshape(*lead, steps * size[0], rows * size[1], columns * size[2], 3)


def image_to_patches(pixels: Tensor) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Pixels fp32 [3, H, W] in [-1, 1] -> patches [N, 768] (frame 0 of each), coords int32 [N, 4], and the geometry.

    The right and bottom edges are padded to whole patches by replicating the last column and row; ``box`` of the
    geometry (top, left, height, width) says which pixels are real. N = ceil(H / 16) * ceil(W / 16), row-major.
    """
    _, height, width = pixels.shape
    patches = patchify(pixels.permute(1, 2, 0)[None], ONE_FRAME)
    grid = (*patches.shape[:3], 1)
    geometry = {"grid": grid, "size": (height, width), "box": (0, 0, height, width)}
    return patches.flatten(0, 2), dense_coords(grid), geometry


def patches_to_image(patches: Tensor, grid: Sequence[int], box: tuple[int, int, int, int]) -> Tensor:
    """The inverse of ``image_to_patches``: patches [N, 768] -> pixels [3, H, W] cropped to ``box``."""
    return patches_to_frames(patches, grid, box)[0].permute(2, 0, 1)


def frames_to_patches(frames: np.ndarray | Tensor) -> tuple[Tensor, Tensor, tuple[int, int, int, int]]:
    """Frames [T, H, W, 3], uint8 or floats in [-1, 1] -> patches [N, 3072], coords int32 [N, 4], and the grid.

    Patches of bytes are fp32 in [-1, 1]. Each holds four frames in their order, each (row, column, RGB). Missing frames
    repeat the last one, the right and bottom edges the last column and row. N = ceil(T / 4) * ceil(H / 16) *
    ceil(W / 16), in the order t, x, y of the grid (t, x, y, 1).
    """
    patches = patchify(torch.from_numpy(frames) if isinstance(frames, np.ndarray) else frames)
    grid = (*patches.shape[:3], 1)
    patches = patches.flatten(0, 2)
    return from_uint8(patches) if patches.dtype == torch.uint8 else patches, dense_coords(grid), grid


def patches_to_frames(patches: Tensor, grid: Sequence[int], box: tuple[int, int, int, int] | None = None) -> Tensor:
    """The inverse of ``frames_to_patches``: patches [N, 3072] of any dtype -> frames [4 * t, H, W, 3] in ``box``.

    Patches [N, 768] of pictures or of first frames give one frame a step.
    """
    size = (patches.shape[1] // FRAME_FEATURES, *PATCH[1:])
    frames = unpatchify(patches.view(*grid[:3], -1), size)
    top, left, height, width = box or (0, 0, *frames.shape[1:3])
    return frames[:, top : top + height, left : left + width]
