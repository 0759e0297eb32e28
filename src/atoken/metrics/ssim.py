"""Structural similarity (Wang et al. 2004): Gaussian window of 11 pixels, sigma 1.5, K1 0.01, K2 0.03."""

from __future__ import annotations

import torch
from torch import Tensor

from .ms_ssim import C1, C2, WINDOW, gaussian_means


def ssim(pictures: Tensor, references: Tensor) -> Tensor:
    """SSIM of each picture with its reference: uint8 [B, 3, H, W] twice -> fp32 [B].

    Computed for every channel of RGB wherever the whole window lies inside the picture, and averaged, as scikit-image
    does with ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False``. Raises ``ValueError`` for other
    dtypes, unequal shapes, and pictures smaller than the window.
    """
    if pictures.dtype != torch.uint8 or references.dtype != torch.uint8 or pictures.shape != references.shape:
        raise ValueError(
            f"ssim compares uint8 pictures of one shape, not {pictures.dtype} {list(pictures.shape)} "
            f"and {references.dtype} {list(references.shape)}"
        )
    if min(pictures.shape[-2:]) < WINDOW:
        raise ValueError(f"ssim needs at least {WINDOW} pixels a side, not {list(pictures.shape[-2:])}")
    x, y = (p.float() / 255 - 0.5 for p in (pictures, references))  # centred, so that the squares lose no digits
    means = gaussian_means(torch.stack([x, y, x.square() + y.square(), x * y]))
    mean_x, mean_y, squares, product = means
    covariance = product - mean_x * mean_y
    variances = squares - mean_x.square() - mean_y.square()
    mean_x, mean_y = mean_x + 0.5, mean_y + 0.5
    luminance = (2 * mean_x * mean_y + C1) / (mean_x.square() + mean_y.square() + C1)
    return (luminance * (2 * covariance + C2) / (variances + C2)).mean((1, 2, 3))
