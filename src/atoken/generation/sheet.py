"""Several pictures in one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

GAP = 4
"""White pixels between the pictures of a sheet."""


def sheet(pictures: Sequence[np.ndarray], columns: int | None = None) -> np.ndarray:
    """Pictures of one size uint8 [H, W, 3] row by row on white; nearly as many rows as columns, or so many columns."""
    height, width, _ = pictures[0].shape
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    canvas = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * (height + GAP), index % columns * (width + GAP)
        canvas[top : top + height, left : left + width] = picture
    return canvas
