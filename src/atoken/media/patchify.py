"""Pictures and frames as patches and back: nothing is cropped, nothing is guessed, and padding is remembered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..nn.packed import dense_coords
from ..tokens.patch import PATCH

STEPS, ROWS, COLUMNS = PATCH


def to_pixels(
    picture: np.ndarray | Tensor, *, value_range: tuple[float, float] | None = None, layout: str | None = None
) -> Tensor:
    """An array as pixels fp32 [3, H, W] in [-1, 1].

    NumPy arrays are read as HWC and torch tensors as CHW unless ``layout`` ("HWC" or "CHW") says otherwise. uint8 has
    the range 0 ... 255; float pixels need their ``value_range`` stated. Raises ``ValueError`` for another dtype, a
    wrong shape, an empty picture, NaN or infinite pixels, and pixels outside the stated range.
    """
    if isinstance(picture, np.ndarray) and picture.dtype.kind not in "uif":
        raise ValueError(f"pixels must be uint8 or float, not {picture.dtype}")
    pixels = picture if isinstance(picture, Tensor) else torch.from_numpy(np.require(picture, requirements=["C", "W"]))
    layout = layout or ("CHW" if isinstance(picture, Tensor) else "HWC")
    if layout not in ("HWC", "CHW"):
        raise ValueError(f'layout must be "HWC" or "CHW", not {layout!r}')
    _check_colours(list(pixels.shape), layout)
    if pixels.numel() == 0:
        raise ValueError(f"the picture is empty: its shape is {list(pixels.shape)}")
    if layout == "HWC":
        pixels = pixels.permute(2, 0, 1)
    return _normalised(pixels, value_range)


def _check_colours(shape: list[int], layout: str) -> None:
    """Raise ``ValueError``, with what to do, unless a picture of that shape has three channels."""
    axis = layout.index("C")
    if len(shape) == 3 and shape[axis] == 3:
        return
    said = f"a picture of shape {shape} is not RGB in {layout} order"
    if len(shape) == 3 and shape[2 - axis] == 3:
        other = "CHW" if layout == "HWC" else "HWC"
        raise ValueError(f'{said}: is it layout="{other}"?')
    if len(shape) == 2 or (len(shape) == 3 and shape[axis] == 1):
        raise ValueError(f"{said} but grey: repeat it three times along the axis of the channels, or pass the file")
    if len(shape) == 3 and shape[axis] in (2, 4):
        raise ValueError(f"{said} but has transparency or black ink: pass the file or a PIL image, or three channels")
    raise ValueError(f"{said}: it needs three axes, and three channels along one of them")


def _limits(value_range: Any) -> tuple[float, float]:
    """Both ends of a range. Raises ``ValueError`` unless they are finite, ascending numbers."""
    numbers = tuple(value_range) if isinstance(value_range, tuple | list) else ()
    if len(numbers) == 2 and all(isinstance(number, int | float | np.number) for number in numbers):
        low, high = map(float, numbers)
        if low < high and math.isfinite(high - low):
            return low, high
    raise ValueError(f"value_range is {value_range!r}: give two finite numbers that ascend, such as (0, 1) or (-1, 1)")


def _normalised(pixels: Tensor, value_range: tuple[float, float] | None) -> Tensor:
    limits = None if value_range is None else _limits(value_range)
    if pixels.dtype == torch.uint8:
        if limits not in (None, (0, 255)):
            raise ValueError(f"uint8 pixels have the range (0, 255), not {value_range}")
        return pixels.float().div_(127.5).sub_(1)
    if not pixels.is_floating_point():
        raise ValueError(f"pixels must be uint8 or float, not {pixels.dtype}")
    if limits is None:
        raise ValueError("float pixels need their range: pass value_range=(0, 1), (-1, 1) or (0, 255)")
    low, high = limits
    if not bool(torch.isfinite(pixels).all()):
        raise ValueError("the picture has NaN or infinite pixels")
    slack = 1e-3 * (high - low)  # resampling overshoots by rounding
    if float(pixels.min()) < low - slack or float(pixels.max()) > high + slack:
        span = f"{float(pixels.min()):.4g} ... {float(pixels.max()):.4g}"
        raise ValueError(f"pixels lie in {span}, outside the stated value_range {value_range}")
    return ((pixels.float() - low) * (2 / (high - low)) - 1).clamp(-1, 1)


def image_to_patches(pixels: Tensor) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Pixels fp32 [3, H, W] in [-1, 1] -> patches [N, 768] (frame 0 of each), coords int32 [N, 4], and the geometry.

    The right and bottom edges are padded to whole patches by replicating the last column and row; ``box`` of the
    geometry (top, left, height, width) says which pixels are real. N = ceil(H / 16) * ceil(W / 16), row-major.
    """
    _, height, width = pixels.shape
    rows, columns = -(-height // ROWS), -(-width // COLUMNS)
    padding = (0, columns * COLUMNS - width, 0, rows * ROWS - height)
    padded = F.pad(pixels[None], padding, mode="replicate")[0] if any(padding) else pixels
    blocks = padded.unflatten(1, (rows, ROWS)).unflatten(3, (columns, COLUMNS))  # [3, R, 16, C, 16]
    patches = blocks.permute(1, 3, 2, 4, 0).reshape(rows * columns, -1)  # [R * C, 16 * 16 * 3]
    grid = (1, rows, columns, 1)
    geometry = {"grid": grid, "size": (height, width), "box": (0, 0, height, width)}
    return patches, dense_coords(grid), geometry


def patches_to_image(patches: Tensor, grid: tuple[int, ...], box: tuple[int, int, int, int]) -> Tensor:
    """The inverse of ``image_to_patches``: patches [N, 768] -> pixels [3, H, W] cropped to ``box``."""
    _, rows, columns, _ = grid
    blocks = patches.view(rows, columns, ROWS, COLUMNS, 3)
    canvas = blocks.permute(4, 0, 2, 1, 3).reshape(3, rows * ROWS, columns * COLUMNS)
    top, left, height, width = box
    return canvas[:, top : top + height, left : left + width]


def to_uint8(pixels: Tensor) -> np.ndarray:
    """Pixels [3, H, W] in [-1, 1] -> uint8 HWC, rounded and clipped."""
    scaled = ((pixels.float() + 1) * 127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()


def frames_to_patches(frames: np.ndarray) -> tuple[Tensor, Tensor, tuple[int, int, int, int]]:
    """Frames uint8 [T, H, W, 3] -> patches fp32 [N, 3072] in [-1, 1], coords int32 [N, 4], and the grid (t, x, y, 1).

    A patch holds four frames in their order, each (row, column, RGB). Missing frames repeat the last one, the right
    and bottom edges the last column and row. N = ceil(T / 4) * ceil(H / 16) * ceil(W / 16), in the order t, x, y.
    """
    count, height, width, _ = frames.shape
    steps, rows, columns = -(-count // STEPS), -(-height // ROWS), -(-width // COLUMNS)
    missing = steps * STEPS - count, rows * ROWS - height, columns * COLUMNS - width
    if any(missing):
        frames = np.pad(frames, [*((0, more) for more in missing), (0, 0)], mode="edge")
    blocks = torch.from_numpy(frames).view(steps, STEPS, rows, ROWS, columns, COLUMNS, 3)
    pixels = blocks.permute(0, 2, 4, 1, 3, 5, 6).reshape(steps * rows * columns, -1)  # [t * R * C, 4 * 16 * 16 * 3]
    grid = (steps, rows, columns, 1)
    return pixels.float().div_(127.5).sub_(1), dense_coords(grid), grid


def patches_to_frames(patches: Tensor, grid: Sequence[int], box: tuple[int, int, int, int]) -> np.ndarray:
    """The inverse of ``frames_to_patches``: patches [N, 3072] -> uint8 [4 * t, H, W, 3], cropped to ``box``."""
    steps, rows, columns, _ = grid
    shades = (patches.float() + 1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    blocks = shades.view(steps, rows, columns, STEPS, ROWS, COLUMNS, 3)
    top, left, height, width = box
    canvas = blocks.permute(0, 3, 1, 4, 2, 5, 6).reshape(steps * STEPS, rows * ROWS, columns * COLUMNS, 3)
    return canvas[:, top : top + height, left : left + width].contiguous().cpu().numpy()
