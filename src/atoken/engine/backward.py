"""One batch forward and backward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def weighted(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> dict[str, Tensor]:
    """Each term times its weight; without any ``weights`` the terms. Raises ``ValueError`` for a term without one."""
    if not weights:
        return dict(terms)
    if unknown := [name for name in terms if name not in weights]:
        raise ValueError(f"no weight for the term {unknown[0]!r}; the terms are {', '.join(weights)}")
    return {name: term * weights[name] for name, term in terms.items()}


def backward(
    module: nn.Module, task: str, batch: Any, weights: Mapping[str, float], share: float, device: str, autocast: bool
) -> dict[str, Tensor]:
    """Weighted terms of a batch, without their graph, and the gradients of ``share`` times their sum in the parameters.

    ``device`` is the kind, "cpu" or "cuda".
    """
    with torch.autocast(device, torch.bfloat16, enabled=autocast):
        terms = weighted(module(task, batch), weights)
        total = torch.stack(list(terms.values())).sum() * share
        total.backward()
    return {name: term.detach() for name, term in terms.items()}
