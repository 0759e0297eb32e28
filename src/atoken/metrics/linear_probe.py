"""A linear probe: multinomial logistic regression on features of a frozen network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

DECAY = 0.1
"""Weight of half the squared norm of the matrix beside the mean cross-entropy, on features of deviation 1. With
Lite0's features, of an eighth of nano-draw's training names left out, 0.01 and 0.1 get 61 % right (35 classes), 1 gets
54."""
STEPS = 100
"""Of L-BFGS, which ends earlier where nothing changes any more."""


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """Scores of classes for features that are first brought to mean 0 and deviation 1."""

    mean: Tensor
    """fp64 [C]."""
    std: Tensor
    """fp64 [C]."""
    weight: Tensor
    """fp64 [K, C]."""
    bias: Tensor
    """fp64 [K]."""

    @classmethod
    def fit(cls, features: Tensor, labels: Tensor, classes: int) -> LinearProbe:
        """From features [N, C] of any float dtype and labels int64 [N] below ``classes``; no chance is involved."""
        x = features.double()
        mean, std = x.mean(0), x.std(0).clamp_min(1e-6)
        x = (x - mean) / std
        weight = torch.zeros(classes, x.shape[1], dtype=x.dtype, requires_grad=True)
        bias = torch.zeros(classes, dtype=x.dtype, requires_grad=True)
        optimizer = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = F.cross_entropy(F.linear(x, weight, bias), labels) + DECAY / 2 * weight.square().sum()
            value.backward()
            return value

        with torch.enable_grad():
            optimizer.step(loss)
        return cls(mean, std, weight.detach(), bias.detach())

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """Share of features [N, C] whose likeliest class is that of ``labels`` int64 [N]."""
        scores = F.linear((features.double() - self.mean) / self.std, self.weight, self.bias)
        return float((scores.argmax(-1) == labels).double().mean())
