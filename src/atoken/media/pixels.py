"""Arrays as pixels in [-1, 1], and pixels as bytes: the one pair of functions for each."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

LAYOUTS = ("HWC", "CHW")


def from_uint8(pixels: Tensor) -> Tensor:
    """uint8 of any shape -> fp32 in [-1, 1]."""
    return pixels.to(torch.float32, copy=True).div_(127.5).sub_(1)


def to_uint8(pixels: Tensor) -> Tensor:
    """Floats in [-1, 1] of any shape -> uint8, rounded and clipped."""
    return pixels.to(torch.float32, copy=True).add_(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def to_range(pixels: Tensor, value_range: tuple[float, float]) -> Tensor:
    """Floats in [-1, 1] of any shape -> fp32 in ``value_range``, clipped to it. Raises ``ValueError`` for no range."""
    low, high = limits(value_range)
    return ((pixels.float() + 1) * ((high - low) / 2) + low).clamp(low, high)


def to_array(pixels: Tensor) -> np.ndarray:
    """Pixels [3, H, W] in [-1, 1] -> uint8 HWC, rounded and clipped."""
    return to_uint8(pixels).permute(1, 2, 0).contiguous().cpu().numpy()


def to_pixels(
    picture: np.ndarray | Tensor, *, value_range: tuple[float, float] | None = None, layout: str | None = None
) -> Tensor:
    """An array as pixels fp32 [3, H, W] in [-1, 1].

    NumPy arrays are read as HWC and torch tensors as CHW unless ``layout`` ("HWC" or "CHW") says otherwise. uint8 has
    the range 0 ... 255; float pixels need their ``value_range`` stated. Raises ``ValueError`` for another dtype, a
    wrong shape, an empty picture, NaN or infinite pixels, and pixels outside the stated range.
    """
    pixels = as_tensor(picture)
    layout = layout or ("CHW" if isinstance(picture, Tensor) else "HWC")
    check_layout(layout)
    _check_colours(list(pixels.shape), layout)
    if pixels.numel() == 0:
        raise ValueError(f"the picture is empty: its shape is {list(pixels.shape)}")
    if layout == "HWC":
        pixels = pixels.permute(2, 0, 1)
    return normalised(pixels, value_range)


def as_tensor(array: np.ndarray | Tensor) -> Tensor:
    """An array of numbers as a tensor, without a copy where that can be. Raises ``ValueError`` for other dtypes."""
    if isinstance(array, Tensor):
        return array
    if array.dtype.kind not in "uif":
        raise ValueError(f"pixels must be uint8 or float, not {array.dtype}")
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def check_layout(layout: str | None) -> None:
    """Raise ``ValueError`` for an order of the axes that is none."""
    if layout not in (None, *LAYOUTS):
        raise ValueError(f'layout must be "HWC" or "CHW", not {layout!r}')


def limits(value_range: Any) -> tuple[float, float]:
    """Both ends of a range. Raises ``ValueError`` unless they are finite, ascending numbers."""
    numbers = tuple(value_range) if isinstance(value_range, tuple | list) else ()
    if len(numbers) == 2 and all(isinstance(number, int | float | np.number) for number in numbers):
        low, high = map(float, numbers)
        if low < high and math.isfinite(high - low):
            return low, high
    raise ValueError(f"value_range is {value_range!r}: give two finite numbers that ascend, such as (0, 1) or (-1, 1)")


def normalised(pixels: Tensor, value_range: tuple[float, float] | None) -> Tensor:
    """Pixels of any shape, uint8 or floats in ``value_range``, as fp32 in [-1, 1].

    Raises ``ValueError`` for another dtype, a range that is missing, and pixels that are not in it.
    """
    ends = None if value_range is None else limits(value_range)
    if pixels.dtype == torch.uint8:
        if ends not in (None, (0, 255)):
            raise ValueError(f"uint8 pixels have the range (0, 255), not {value_range}")
        return from_uint8(pixels)
    if not pixels.is_floating_point():
        raise ValueError(f"pixels must be uint8 or float, not {pixels.dtype}")
    if ends is None:
        raise ValueError("float pixels need their range: pass value_range=(0, 1), (-1, 1) or (0, 255)")
    low, high = ends
    least, most = torch.stack(pixels.detach().aminmax()).tolist()  # NaN where any pixel is; one wait for the device
    if not (math.isfinite(least) and math.isfinite(most)):
        raise ValueError("the picture has NaN or infinite pixels")
    slack = 1e-3 * (high - low)  # resampling overshoots by rounding
    if least < low - slack or most > high + slack:
        raise ValueError(f"pixels lie in {least:.4g} ... {most:.4g}, outside the stated value_range {value_range}")
    return ((pixels.float() - low) * (2 / (high - low)) - 1).clamp(-1, 1)


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
