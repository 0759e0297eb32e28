"""The continuous bottleneck: a diagonal Gaussian per token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LOGVAR_RANGE = (-30.0, 20.0)
"""Log-variances beyond are taken for these, as in latent diffusion (arXiv 2112.10752): exp stays finite in fp32."""


@dataclass(frozen=True)
class Posterior:
    """Diagonal Gaussian over the latents of each token, from moments fp32 [N, 2C] = (mean, log-variance)."""

    moments: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean, fp32 [N, C]."""
        return self.moments.chunk(2, dim=-1)[0]

    @property
    def logvar(self) -> Tensor:
        """Log-variance, fp32 [N, C], clamped to ``LOGVAR_RANGE``."""
        return self.moments.chunk(2, dim=-1)[1].clamp(*LOGVAR_RANGE)

    def mode(self) -> Tensor:
        """The mean: what the tokenizer stores unless a sample is asked for."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One draw, fp32 [N, C]; differentiable in the moments."""
        mean = self.mean
        return self.at(torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device))

    def at(self, noise: Tensor) -> Tensor:
        """The draw that standard normal noise [N, C] makes, fp32 [N, C]; differentiable in the moments."""
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    def kl(self) -> Tensor:
        """KL divergence to the standard normal, summed over channels: fp32 [N] (paper section 3.2)."""
        mean, logvar = self.mean, self.logvar
        return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(-1)
