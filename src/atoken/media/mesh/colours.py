"""Colours as files have them, of any number type and range, to bytes."""

from __future__ import annotations

import numpy as np


def bytes_of(values: np.ndarray) -> np.ndarray:
    """Colours or grey values [n, 1 to 4] to uint8 [n, 4]; without alpha it is 255.

    The range is that of ``top_of``; alpha has one of its own.
    """
    rgba = np.full((len(values), 4), 255, np.uint8)
    channels = 1 if values.shape[1] < 3 else 3
    rgba[:, :3] = _scaled(values[:, :channels])
    if values.shape[1] in (2, 4):
        rgba[:, 3] = _scaled(values[:, -1:])[:, 0]
    return rgba


def top_of(values: np.ndarray) -> float:
    """What full brightness is, by the type and the values.

    8-bit integers: 255. Floats: 1 where none is larger, or none is above 2 and some are no whole numbers (rounding and
    fits overshoot 1). All others: 255, 65535 or 4294967295, the first that none exceeds.
    """
    if values.dtype.itemsize == 1:
        return 255
    numbers = np.nan_to_num(values.astype(np.float64))
    most = numbers.max(initial=0)
    if values.dtype.kind == "f" and (most <= 1 or (most <= 2 and (numbers % 1 != 0).any())):
        return 1
    return next((top for top in (2.0**8 - 1, 2.0**16 - 1) if most <= top), 2.0**32 - 1)


def _scaled(values: np.ndarray) -> np.ndarray:
    if values.dtype.itemsize == 1:
        return values.view(np.uint8)  # some writers call their bytes signed
    numbers = np.nan_to_num(values.astype(np.float64)) * (255 / top_of(values))
    return np.clip(numbers, 0, 255).round().astype(np.uint8)
