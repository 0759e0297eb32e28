"""Mean absolute error."""

from __future__ import annotations

from torch import Tensor


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of patches [N, C] in [-1, 1]: a scalar (paper Eq. 6)."""
    return (prediction - target).abs().mean()
