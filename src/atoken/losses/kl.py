"""KL divergence of the continuous bottleneck."""

from __future__ import annotations

from torch import Tensor

from ..nn.posterior import Posterior


def kl(posterior: Posterior) -> Tensor:
    """Divergence to the standard normal, summed over the channels of a token, mean over tokens: a scalar.

    The paper leaves the reduction over tokens open; with a mean the weight 1e-8 means the same for every resolution.
    """
    return posterior.kl().mean()
