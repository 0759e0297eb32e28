"""Peak signal-to-noise ratio, and the crop that the paper measures it on."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

HIGHEST = 100.0
"""dB that equal pictures count as where means are taken."""


def psnr(picture: np.ndarray, reference: np.ndarray) -> float:
    """PSNR in dB of two uint8 pictures of one shape, over all pixels and channels; infinity where they are equal.

    Raises ``ValueError`` for other dtypes or unequal shapes.
    """
    if picture.dtype != np.uint8 or reference.dtype != np.uint8 or picture.shape != reference.shape:
        raise ValueError(
            f"psnr compares uint8 pictures of one shape, not {picture.dtype} {picture.shape} "
            f"and {reference.dtype} {reference.shape}"
        )
    error = np.square(picture.astype(np.float64) - reference.astype(np.float64)).mean()
    return float(10 * np.log10(255**2 / error)) if error > 0 else float("inf")


def psnr_batch(pictures: Tensor, references: Tensor) -> Tensor:
    """PSNR in dB of each picture with its reference: uint8 [B, 3, H, W] twice -> fp32 [B]; infinity where equal.

    Raises ``ValueError`` for other dtypes or unequal shapes.
    """
    if pictures.dtype != torch.uint8 or references.dtype != torch.uint8 or pictures.shape != references.shape:
        raise ValueError(
            f"psnr compares uint8 pictures of one shape, not {pictures.dtype} {list(pictures.shape)} "
            f"and {references.dtype} {list(references.shape)}"
        )
    error = (pictures.short() - references.short()).float().square().mean((1, 2, 3))
    return 10 * torch.log10(255**2 / error)


def centre_crop(picture: np.ndarray, size: int = 256) -> np.ndarray:
    """The paper's protocol: shorter side resized to ``size`` (Lanczos), then the centre ``size`` x ``size`` crop.

    uint8 HWC -> uint8 [size, size, 3].
    """
    height, width = picture.shape[:2]
    scale = size / min(height, width)
    target = (max(size, round(width * scale)), max(size, round(height * scale)))
    resized = Image.fromarray(picture).resize(target, Image.Resampling.LANCZOS)
    left, top = (target[0] - size) // 2, (target[1] - size) // 2
    return np.asarray(resized.crop((left, top, left + size, top + size)))
