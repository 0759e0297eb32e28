"""What a masked generator learns: the codes of locations that are hidden from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..condition import Condition
from .config import MaskedObjectiveConfig
from .net import MaskedNet


@dataclass(frozen=True, eq=False)
class CodeBatch:
    """Samples that a masked generator learns from."""

    codes: Tensor
    """int64 [N, G]."""
    coords: Tensor
    """int [N, 5] = (sample, t, x, y, z), samples contiguous and numbered from 0."""
    condition: Condition
    seed: int
    """Of masks and dropped conditions."""
    cursor: dict[str, Any] = field(default_factory=dict)
    """Where the feed that it comes from stands after it."""

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sample."""
        return torch.bincount(self.coords[:, 0].long()).tolist()

    def pinned(self) -> CodeBatch:
        """The same with the codes in pinned memory."""
        return replace(self, codes=self.codes.pin_memory())


def draw_ratio(config: MaskedObjectiveConfig, generator: torch.Generator) -> float:
    """The share of hidden locations of a batch: normal, cut to ``mask_least`` ... 1, by its inverse distribution."""
    ends = torch.tensor([config.mask_least, 1.0], dtype=torch.float64)
    low, high = torch.special.ndtr((ends - config.mask_mean) / config.mask_std).tolist()
    place = low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64)
    ratio = config.mask_mean + config.mask_std * float(torch.special.ndtri(place))
    return min(max(ratio, config.mask_least), 1.0)


def draw_hidden(lengths: list[int], ratio: float, generator: torch.Generator) -> Tensor:
    """Which locations are hidden, bool [N]: the same share of each sample, one or more, at places of its own."""
    masks = []
    for length in lengths:
        mask = torch.zeros(length, dtype=torch.bool)
        mask[torch.randperm(length, generator=generator)[: max(1, math.ceil(ratio * length))]] = True
        masks.append(mask)
    return torch.cat(masks)


class MaskedObjective(nn.Module):
    """The net together with what it learns: ``forward`` turns a batch into unweighted terms."""

    def __init__(self, net: MaskedNet, config: MaskedObjectiveConfig) -> None:
        super().__init__()
        self.net, self.config = net, config

    def forward(self, batch: CodeBatch) -> dict[str, Tensor]:
        """``cross_entropy`` in nats a code, over hidden locations (all in raster order) and groups, and of each group.

        Masks and dropped conditions follow from the batch's seed alone.
        """
        generator = torch.Generator().manual_seed(batch.seed)
        lengths = batch.lengths
        gone = (torch.rand(len(lengths), generator=generator) < self.config.drop).tolist()
        condition = batch.condition.dropped(gone) if any(gone) else batch.condition
        told = self.net.told(condition, len(lengths))
        codes, coords = batch.codes.to(self.net.device), batch.coords[:, 1:]
        if self.net.config.order == "raster":
            features = self.net.raster(codes, coords, lengths, told)
        else:
            hidden = draw_hidden(lengths, draw_ratio(self.config, generator), generator)
            features = self.net.features(codes, ~hidden, coords, lengths, told)
            hidden = hidden.to(features.device)
            features, codes = features[hidden], codes[hidden]
        logits = self.net.head(features, codes)
        groups = [F.cross_entropy(own.float(), codes[:, g]) for g, own in enumerate(logits)]
        terms = {f"cross_entropy_{g}": own.detach() for g, own in enumerate(groups)}
        return {"cross_entropy": torch.stack(groups).mean(), **terms}

    @property
    def weights(self) -> dict[str, float]:
        """What each term counts in the loss; those of groups are only reported."""
        groups = range(len(self.net.config.levels))
        return {"cross_entropy": 1.0, **{f"cross_entropy_{g}": 0.0 for g in groups}}
