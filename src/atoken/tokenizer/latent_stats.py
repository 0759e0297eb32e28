"""How the latents of a tokenizer are distributed over its training data, as generators want to know."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ..metrics.frechet import FeatureStatistics


@dataclass(frozen=True)
class ChannelStats:
    """Mean and standard deviation of each latent channel over some data, as ``encode`` gives latents.

    Raises ``ValueError`` where the numbers do not fit each other.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    tokens: int
    """How many tokens they are of."""
    data: str
    """Which data, in words."""
    weights: str
    """SHA-256 of the weights that made the latents."""

    def __post_init__(self) -> None:
        fits = len(self.mean) == len(self.std) > 0 and all(math.isfinite(number) for number in (*self.mean, *self.std))
        if not fits or min(self.std) <= 0 or self.tokens < 2:
            raise ValueError(
                f"latent_stats need as many finite means as positive deviations, of two tokens or more: they have "
                f"{len(self.mean)} and {len(self.std)}, of {self.tokens} tokens"
            )

    @classmethod
    def of(cls, latents: Iterable[Tensor], *, data: str, weights: str) -> ChannelStats:
        """Those of batches of latents [N, C], to six digits; memory does not grow with their number.

        Raises ``ValueError`` where there are none, or a channel does not vary.
        """
        sums = measured(latents)
        std = sums.covariance.diagonal().clamp_min(0).sqrt()
        mean, deviation = (tuple(float(f"{number:.6g}") for number in numbers.tolist()) for numbers in (sums.mean, std))
        return cls(mean, deviation, sums.count, data, weights)


def measured(latents: Iterable[Tensor]) -> FeatureStatistics:
    """Sums over batches of latents [N, C], in fp64; memory does not grow with their number.

    Raises ``ValueError`` where there are none.
    """
    from ..metrics.frechet import FeatureStatistics

    sums: FeatureStatistics | None = None
    for batch in latents:
        sums = sums or FeatureStatistics(batch.shape[1])
        sums.update(batch)
    if sums is None:
        raise ValueError("there are no latents to measure")
    return sums
