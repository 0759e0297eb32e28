"""What the axes of an array of pixels are: a picture, pictures, a clip or clips. Nothing is guessed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ..media.pixels import as_tensor, check_layout
from ..tokens.checks import check_fps

NAMES = {
    "pictures": {1: "[B, 3, H, W]", 3: "[B, H, W, 3]"},
    "clip": {0: "[3, T, H, W]", 1: "[T, 3, H, W]", 3: "[T, H, W, 3]"},
    "clips": {1: "[B, 3, T, H, W]", 2: "[B, T, 3, H, W]", 4: "[B, T, H, W, 3]"},
}
"""How an array may be meant, by the axis of its channels."""


@dataclass(frozen=True, eq=False)
class PixelClip:
    """A clip in memory whose frames appear at ``fps`` a second from time 0 on."""

    frames: Tensor
    """[T, H, W, 3], uint8 or floats in ``value_range``."""
    fps: float
    value_range: tuple[float, float] | None = None
    modality = "video"


def sources_of(
    array: np.ndarray | Tensor, *, value_range: tuple[float, float] | None, layout: str | None, fps: float | None
) -> tuple[list[Any], bool]:
    """The pictures or clips of an array, and whether it is a batch of them.

    A picture [3, H, W] or [H, W, 3] stays as it is. With ``fps``, four axes are a clip and five are clips, with the
    channels in front of the time ("CHW") or last ("HWC"); without it, four axes are pictures [B, 3, H, W], or with
    ``layout="HWC"`` [B, H, W, 3]. Raises ``ValueError`` where shape and ``layout`` leave several readings, or none.
    """
    check_layout(layout)
    shape = list(array.shape)
    if 0 in shape:
        raise ValueError(f"the array is empty: its shape is {shape}")
    if fps is None and array.ndim <= 3:
        return [array], False
    if fps is not None:
        check_fps(fps)
    meaning = {(4, False): "pictures", (4, True): "clip", (5, True): "clips"}.get((array.ndim, fps is not None))
    if meaning is None:
        remedy = "clips need fps=" if array.ndim == 5 else "a clip has 4 axes, clips have 5, pictures no fps"
        raise ValueError(f"an array of shape {shape} is no batch: {remedy}")
    axis = _channel_axis(shape, meaning, layout)
    tensor = as_tensor(array)
    if meaning == "pictures":
        return list(tensor), True
    clips = [tensor] if meaning == "clip" else list(tensor)
    place = axis if meaning == "clip" else axis - 1
    return [PixelClip(clip.movedim(place, -1), float(fps or 0), value_range) for clip in clips], meaning == "clips"


def _channel_axis(shape: list[int], meaning: str, layout: str | None) -> int:
    """The axis of the three channels. Raises ``ValueError`` unless there is just one."""
    readings = NAMES[meaning]
    first, last = min(readings), max(readings)
    if layout is not None:
        axis = first if layout == "CHW" else last
        if shape[axis] != 3:
            raise ValueError(f"an array of shape {shape} is not {readings[axis]}, as layout={layout!r} says")
        return axis
    fits = {axis: name for axis, name in readings.items() if shape[axis] == 3}
    if len(fits) > 1:
        raise ValueError(
            f'an array of shape {shape} may be {" or ".join(fits.values())}: say layout="CHW" for {readings[first]}, '
            f'"HWC" for {readings[last]}'
        )
    if meaning == "pictures" and last in fits:
        raise ValueError(
            f"an array of frames {shape} does not say when they are shown: give fps= (or atoken.Clip with the times of "
            'all); for pictures say layout="HWC"'
        )
    if not fits or next(iter(fits)) not in (first, last):
        raise ValueError(f"an array of shape {shape} is neither {readings[first]} nor {readings[last]}: permute it")
    return next(iter(fits))
