"""One batch forward and backward, as a run, its plan and the bench compute it."""

from __future__ import annotations

import torch

from ..data.batch import Batch
from ..losses.total import weighted
from .config import TrainConfig


def passes(
    learner: torch.nn.Module, task: str, share: float, batch: Batch, config: TrainConfig, device: str
) -> dict[str, torch.Tensor]:
    """Weighted terms of a batch, without their graph, and the gradients of ``share`` times their sum in the parameters.

    ``device`` is the kind, "cpu" or "cuda".
    """
    with torch.autocast(device, torch.bfloat16, enabled=config.parallel.autocast):
        terms = weighted(learner(task, batch), config.loss)
        total = torch.stack(list(terms.values())).sum() * share
        total.backward()
    return {name: term.detach() for name, term in terms.items()}
