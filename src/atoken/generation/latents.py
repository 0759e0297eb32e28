"""Latents as a generator sees them: each number with mean 0 and variance 1."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.equal import equal_fields
from ..tokenizer.latent_stats import measured

LEAST_STD = 1e-3
"""Smallest deviation, as a share of the largest: what varies less is mostly rounding, and is not blown up."""


@dataclass(frozen=True, eq=False)
class Normaliser:
    """Scales latents by their mean and standard deviation, by channel or along the axes of ``basis``; all fp32.

    Raises ``ValueError`` where shapes do not fit, or a deviation is not positive and finite.
    """

    mean: Tensor
    """[C]."""
    std: Tensor
    """[C], of the channels, or of the columns of ``basis``."""
    basis: Tensor | None = None
    """Orthogonal [C, C]: whitening. Its columns are the axes along which latents have ``std``."""

    def __post_init__(self) -> None:
        shape = self.mean.shape
        fits = len(shape) == 1 and self.std.shape == shape
        if not fits or (self.basis is not None and self.basis.shape != (*shape, *shape)):
            raise ValueError(
                f"statistics of latents need mean and std [C] and a basis [C, C], not {list(shape)}, "
                f"{list(self.std.shape)} and {None if self.basis is None else list(self.basis.shape)}"
            )
        if not bool(torch.isfinite(self.mean).all() & torch.isfinite(self.std).all() & (self.std > 0).all()):
            raise ValueError("statistics of latents need finite means and positive standard deviations")

    def __eq__(self, other: object) -> bool:
        """Whether all tensors are equal."""
        return equal_fields(self, other)

    @classmethod
    def of(cls, latents: Iterable[Tensor], *, whiten: bool = False) -> Normaliser:
        """Those of batches of latents [N, C]. Raises ``ValueError`` for fewer than two tokens in all."""
        sums = measured(latents)
        variances, basis = sums.covariance.diagonal(), None
        if whiten:
            variances, basis = torch.linalg.eigh(sums.covariance)
            basis = basis.float()
        std = variances.clamp_min(0).sqrt()
        return cls(sums.mean.float(), std.clamp_min(LEAST_STD * float(std.max())).float(), basis)

    def normalise(self, latents: Tensor) -> Tensor:
        """Latents [N, C] -> fp32 [N, C] of mean 0 and variance 1."""
        x = latents.float() - self.mean.to(latents.device)
        x = x if self.basis is None else x @ self.basis.to(x.device)
        return x / self.std.to(x.device)

    def restore(self, x: Tensor) -> Tensor:
        """The inverse of ``normalise``."""
        x = x.float() * self.std.to(x.device)
        x = x if self.basis is None else x @ self.basis.to(x.device).T
        return x + self.mean.to(x.device)

    def to_state(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {name: value for name, value in vars(self).items() if value is not None}
