"""Numbers that compare two sets of pictures by their features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...core.errors import ReadError, reading
from ...metrics.frechet import FeatureStatistics, gaussian_distance
from .networks import LOGITS, POOLED, SPATIAL
from .pictures import names_in

NEIGHBOURS = 3
"""Of precision and recall: a ball reaches to the third nearest of its own set (arXiv 1904.06991)."""
SPLITS = 10
"""Of the inception score, after a shuffle with torch-fidelity's seed."""
THUMBNAIL = 32
"""Side of the pictures whose pixels are compared."""


class Gaussian(NamedTuple):
    """What a Fréchet distance sees of a set."""

    mean: Tensor
    """fp64 [C]."""
    covariance: Tensor
    """fp64 [C, C]."""


def gaussian_of(features: Tensor) -> Gaussian:
    """Of features [N, C]. Raises ``ValueError`` for fewer than two."""
    statistics = FeatureStatistics(features.shape[1])
    statistics.update(features)
    return Gaussian(statistics.mean, statistics.covariance)


def frechet(a: Gaussian, b: Gaussian) -> float:
    """The Fréchet distance. Raises ``ValueError`` where the numbers of channels differ."""
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"statistics of {len(a.mean)} and {len(b.mean)} channels cannot be compared")
    return gaussian_distance(a, b).total


def read_statistics(path: Path) -> dict[str, Gaussian]:
    """Statistics out of an npz file by features' name: ``mu``, ``sigma`` pooled, ``mu_s``, ``sigma_s`` spatial.

    Raises ``ReadError`` for shapes that do not fit.
    """
    found, names = {}, names_in(path)
    for name, mean, covariance in ((POOLED, "mu", "sigma"), (SPATIAL, "mu_s", "sigma_s")):
        if f"{mean}.npy" not in names or f"{covariance}.npy" not in names:
            continue
        with reading(path, "download it again"), np.load(path, allow_pickle=False) as file:
            mu, sigma = (torch.from_numpy(np.asarray(file[key], np.float64)) for key in (mean, covariance))
        if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)) or not bool(torch.isfinite(sigma).all()):
            raise ReadError(
                f"{path}: {mean} {list(mu.shape)} and {covariance} {list(sigma.shape)} must be finite [C], [C, C]"
            )
        found[name] = Gaussian(mu, sigma)
    return found


def inception_numbers(
    drawn: dict[str, Tensor], statistics: dict[str, Gaussian], real: dict[str, Tensor] | None
) -> dict[str, float]:
    """FID, sFID, IS, precision and recall, as far as the reference allows; all but sFID by torch-fidelity's functions.

    ``statistics`` of the reference, by features' name; ``real``: its features, where there are pictures of it.
    """
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    numbers = {"is": isc_features_to_metric(drawn[LOGITS], splits=SPLITS)[KEY_METRIC_ISC_MEAN]}
    if POOLED in statistics:
        both = [_numpy(statistic) for statistic in (gaussian_of(drawn[POOLED]), statistics[POOLED])]
        numbers["fid"] = fid_statistics_to_metric(*both, verbose=False)[KEY_METRIC_FID]
    if SPATIAL in statistics:
        numbers["sfid"] = frechet(gaussian_of(drawn[SPATIAL]), statistics[SPATIAL])
    if real is not None:
        options = {"prc_neighborhood": NEIGHBOURS, "prc_batch_size": 10_000, "save_cpu_ram": True, "verbose": False}
        balls = prc_features_to_metric(drawn[POOLED], real[POOLED], **options)
        numbers |= {"precision": balls[KEY_METRIC_PRECISION], "recall": balls[KEY_METRIC_RECALL]}
    return numbers


def _numpy(statistic: Gaussian) -> dict[str, np.ndarray]:
    return {"mu": statistic.mean.numpy(), "sigma": statistic.covariance.numpy()}


@dataclass(frozen=True)
class Nearest:
    """For each of N pictures the nearest of another set."""

    index: Tensor
    """int64 [N]."""
    distance: Tensor
    """fp32 [N]."""


def nearest(features: Tensor, others: Tensor, at_once: int = 256) -> Nearest:
    """By Euclidean distance of features fp32 [N, C] and [M, C]."""
    parts = [torch.cdist(rows, others).min(1) for rows in features.float().split(at_once)]
    return Nearest(torch.cat([part.indices for part in parts]), torch.cat([part.values for part in parts]))


def thumbnails(pictures: Sequence[np.ndarray]) -> Tensor:
    """Pixels fp32 [N, 3072], so scaled that distances are root mean squares in 0 ... 255, over 32 x 32 pixels.

    Pictures uint8 [H, W, 3] are reduced by a box filter.
    """
    side = (THUMBNAIL, THUMBNAIL)
    small = [np.asarray(Image.fromarray(each).resize(side, Image.Resampling.BOX)) for each in pictures]
    flat = torch.from_numpy(np.stack(small)).float().flatten(1)
    return flat / flat.shape[1] ** 0.5


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean, least and largest of several draws."""
    return {"value": sum(values) / len(values), "least": min(values), "largest": max(values)}
