"""The centre crop of ADM, in which pictures are generated and cached."""

from __future__ import annotations

import numpy as np
from PIL import Image


def adm_crop(picture: np.ndarray, size: int) -> np.ndarray:
    """uint8 HWC -> uint8 [size, size, 3]: the shorter side scaled to ``size``, then the centre.

    Halved with a box filter while the shorter side is at least twice ``size``, then bicubic, as ``center_crop_arr`` in
    guided-diffusion's image_datasets.py.
    """
    image = Image.fromarray(picture)
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    return centre(np.asarray(image), size)


def centre(picture: np.ndarray, size: int) -> np.ndarray:
    """The middle of a picture [H, W, ...] of at least ``size`` a side: a view [size, size, ...]."""
    top, left = ((side - size) // 2 for side in picture.shape[:2])
    return picture[top : top + size, left : left + size]
