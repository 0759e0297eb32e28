"""Colours as files have them, of any number type and range, to bytes."""

from __future__ import annotations

import numpy as np


def bytes_of(values: np.ndarray) -> np.ndarray:
    """Colours or grey values [n, 1 to 4] to uint8 [n, 4]; without alpha it is 255.

    The range follows from the type and the values: 8-bit integers are 0 ... 255, floats 0 ... 1 where none is larger,
    and all others 0 ... 255 where none is larger, else 0 ... 65535. Alpha has a range of its own.
    """
    rgba = np.full((len(values), 4), 255, np.uint8)
    channels = 1 if values.shape[1] < 3 else 3
    rgba[:, :3] = _scaled(values[:, :channels])
    if values.shape[1] in (2, 4):
        rgba[:, 3] = _scaled(values[:, -1:])[:, 0]
    return rgba


def _scaled(values: np.ndarray) -> np.ndarray:
    if values.dtype.itemsize == 1:
        return values.view(np.uint8)  # some writers call their bytes signed
    numbers = np.nan_to_num(values.astype(np.float64))
    most = numbers.max(initial=0)
    if values.dtype.kind == "f" and most <= 1:
        numbers *= 255
    elif most > 255:
        numbers /= 257
    return np.clip(numbers, 0, 255).round().astype(np.uint8)
