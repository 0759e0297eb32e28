"""Fréchet distance between two sets of features, from statistics that are streamed, merged, saved and used again.

The distance of two Gaussians (Dowson and Landau 1982), on features of a network as in Heusel et al. 2017:
|m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½). The first term is the part of the means, the second that of the covariances.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..core.files import atomic_write
from ..core.regular import check_regular


@dataclass(frozen=True)
class FrechetDistance:
    """The distance and its two parts."""

    mean_part: float
    """Squared distance of the means."""
    covariance_part: float

    @property
    def total(self) -> float:
        """The Fréchet distance."""
        return self.mean_part + self.covariance_part


class FeatureStatistics:
    """Count, sum and outer product of feature vectors in fp64: constant memory however many there are."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.sum = torch.zeros(channels, dtype=torch.float64)
        self.outer = torch.zeros(channels, channels, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """Add features of any float dtype [B, C]. Raises ``ValueError`` for another shape, NaN or infinity."""
        if features.ndim != 2 or features.shape[1] != len(self.sum):
            raise ValueError(f"features must be [B, {len(self.sum)}], not {list(features.shape)}")
        if not bool(torch.isfinite(features).all()):
            raise ValueError("the feature network gave NaN or infinite features")
        features = features.double().cpu()
        self.count += len(features)
        self.sum += features.sum(0)
        self.outer.addmm_(features.mT, features)

    def merge(self, other: FeatureStatistics) -> None:
        """Add what another shard or rank has counted. Raises ``ValueError`` for another number of channels."""
        if len(other.sum) != len(self.sum):
            raise ValueError(f"statistics of {len(self.sum)} and {len(other.sum)} channels do not add up")
        self.count += other.count
        self.sum += other.sum
        self.outer += other.outer

    @property
    def mean(self) -> Tensor:
        """fp64 [C]."""
        return self.sum / self.count

    @property
    def covariance(self) -> Tensor:
        """Unbiased, fp64 [C, C]. Raises ``ValueError`` for fewer than two vectors."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 feature vectors, not {self.count}")
        mean = self.mean
        return (self.outer - self.count * torch.outer(mean, mean)) / (self.count - 1)

    def tensors(self) -> dict[str, Tensor]:
        """The state, for storage."""
        return {"count": torch.tensor(self.count), "sum": self.sum, "outer": self.outer}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> FeatureStatistics:
        """The inverse of ``tensors``."""
        statistics = cls(len(tensors["sum"]))
        statistics.count = int(tensors["count"])
        statistics.sum, statistics.outer = tensors["sum"].clone(), tensors["outer"].clone()
        return statistics

    def save(self, path: str | Path, origin: Mapping[str, Any]) -> None:
        """Write a safetensors file that says where the features are from (set, protocol, network), atomically."""
        with atomic_write(path) as temporary:
            temporary.write_bytes(safetensors.torch.save(self.tensors(), {"origin": json.dumps(origin)}))

    @classmethod
    def load(cls, path: str | Path) -> tuple[FeatureStatistics, dict[str, Any]]:
        """Statistics and their origin. Raises ``ValueError`` for a file that is damaged or not ours."""
        try:
            check_regular(path)
            tensors = safetensors.torch.load_file(path)
            with safe_open(path, "pt") as file:
                origin = json.loads((file.metadata() or {})["origin"])
            return cls.from_tensors(tensors), origin
        except (SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"{path} does not hold feature statistics ({error})") from None


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> FrechetDistance:
    """Distance between the Gaussians of two sets of features. Raises ``ValueError`` for fewer than two vectors."""
    return gaussian_distance((a.mean, a.covariance), (b.mean, b.covariance))


def gaussian_distance(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> FrechetDistance:
    """Distance between two Gaussians, each a mean fp64 [C] and a covariance fp64 [C, C].

    The trace of the square root comes from the eigenvalues of the symmetric C1^½ C2 C1^½, which are those of C1 C2 and
    stay real where a general matrix square root drifts off.
    """
    mean_part = float((a[0] - b[0]).square().sum())
    first, second = a[1], b[1]
    values, vectors = torch.linalg.eigh(first)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.mT
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    return FrechetDistance(mean_part, float(first.trace() + second.trace() - 2 * cross))
