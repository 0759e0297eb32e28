"""What the Gaussian head is trained with: pictures of its Gaussians against pictures of the asset."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..metrics.ms_ssim import ms_ssim
from .log_mse import log_mse

L1, PERCEPTUAL, STRUCTURE = 1.0, 0.2, 0.2
"""Weights of the released head's training."""

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""A distance of RGB pictures [B, 3, H, W] in [-1, 1], such as ``perceptual.lpips``, as a scalar or [B]."""


def render_loss(
    pictures: Tensor, references: Tensor, perceptual: Perceptual | None = None, log_error: float = 0.0
) -> dict[str, Tensor]:
    """The weighted terms by name, scalars to be added: ``l1``, ``structure`` (1 - MS-SSIM), and those asked for.

    pictures, references [B, 3, H, W] in [0, 1]. ``perceptual`` is a distance; ``log_error`` is the weight of
    ``log_mse``, the mean over pictures of the logarithm of each one's mean squared error.
    """
    terms = {
        "l1": L1 * (pictures - references).abs().mean(),
        "structure": STRUCTURE * (1 - ms_ssim(pictures, references)).mean(),
    }
    if perceptual is not None:
        terms["perceptual"] = PERCEPTUAL * perceptual(pictures * 2 - 1, references * 2 - 1).mean()
    if log_error:
        terms["log_mse"] = log_error * log_mse(pictures.flatten(1), references.flatten(1), [1] * len(pictures))
    return terms
