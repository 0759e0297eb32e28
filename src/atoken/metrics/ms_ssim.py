"""Multi-scale structural similarity (Wang, Simoncelli and Bovik 2003) as a differentiable function."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, finest first, as published."""
WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2  # for pixels whose range is 1
STRIP = 246
"""Outputs of one matrix product: 256 inputs."""
FLOOR = 1e-4
"""Negative similarities count as this: a fractional power of them has no value, and of zero no slope."""


def ms_ssim(pictures: Tensor, references: Tensor) -> Tensor:
    """MS-SSIM of pictures [B, C, H, W] in [0, 1] with their references: [B], 1 for equal pictures.

    Contrast and structure at every scale, luminance at the coarsest, for each channel, averaged. As many of the five
    scales as the window of 11 fits into, their exponents rescaled to the published sum (256 pixels hold all five).
    Raises ``ValueError`` for unequal shapes and pictures smaller than the window.
    """
    if pictures.shape != references.shape or pictures.ndim != 4 or min(pictures.shape[-2:]) < WINDOW:
        raise ValueError(
            f"ms_ssim compares pictures [B, C, H, W] of one shape and at least {WINDOW} pixels a side, not "
            f"{list(pictures.shape)} and {list(references.shape)}"
        )
    fitting = [i for i in range(len(WEIGHTS)) if min(pictures.shape[-2:]) // 2**i >= WINDOW]
    weights = torch.tensor(WEIGHTS[: len(fitting)]).to(pictures)
    weights = weights * (sum(WEIGHTS) / weights.sum())
    product = torch.ones(pictures.shape[:2]).to(pictures)
    for scale in fitting:
        luminance, structure = (part.mean((2, 3)).clamp_min(FLOOR) for part in _similarity(pictures, references))
        product = product * (luminance if scale == fitting[-1] else structure) ** weights[scale]
        pictures, references = F.avg_pool2d(pictures, 2), F.avg_pool2d(references, 2)
    return product.mean(1)


def _similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM, and its contrast and structure alone, [B, C, H - 10, W - 10] each."""
    maps = torch.stack([x, y, x * x + y * y, x * y])
    mean_x, mean_y, squares, product = gaussian_means(maps)
    covariance, variances = product - mean_x * mean_y, squares - mean_x * mean_x - mean_y * mean_y
    structure = (2 * covariance + C2) / (variances + C2)
    return structure * (2 * mean_x * mean_y + C1) / (mean_x * mean_x + mean_y * mean_y + C1), structure


def gaussian_means(maps: Tensor) -> Tensor:
    """Means of maps [..., H, W] under the window, wherever all of it lies inside: [..., H - 10, W - 10]."""
    return _blur_rows(_blur_rows(maps).mT).mT


def _blur_rows(maps: Tensor) -> Tensor:
    """Gaussian means down the rows, as products with a band matrix: several times as fast as a convolution."""
    rows = maps.shape[-2] - WINDOW + 1
    parts = []
    for start in range(0, rows, STRIP):
        count = min(STRIP, rows - start)
        parts.append(_band(count, maps) @ maps[..., start : start + count + WINDOW - 1, :])
    return torch.cat(parts, -2)


def _band(count: int, like: Tensor) -> Tensor:
    """Matrix [count, count + 10] whose row i holds the window at i."""
    window = torch.exp(-(torch.arange(WINDOW) - WINDOW // 2).double().square() / (2 * SIGMA**2))
    window = (window / window.sum()).to(like)
    place = torch.arange(count, device=like.device)[:, None]
    band = torch.zeros(count, count + WINDOW - 1, dtype=like.dtype, device=like.device)
    return band.scatter_(1, place + torch.arange(WINDOW, device=like.device), window.expand(count, -1))
