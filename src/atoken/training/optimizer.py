"""Parameter groups, learning rate and moving average."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .config import OptimizerConfig


def build_optimizers(model: nn.Module, config: OptimizerConfig) -> dict[str, torch.optim.Optimizer]:
    """Muon (arXiv 2502.16982) on the matrices inside the blocks, AdamW on everything else, by name."""
    muon: list[nn.Parameter] = []
    adamw: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (muon if ".blocks." in name and parameter.ndim == 2 and "gamma" not in name else adamw).append(parameter)
    return {
        "muon": torch.optim.Muon(muon, config.muon_lr, weight_decay=config.weight_decay),
        "adamw": torch.optim.AdamW(adamw, config.adamw_lr, config.betas, weight_decay=config.weight_decay),
    }


def rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """Share of the full learning rate at ``step`` of ``steps``: linear warm-up, constant, linear decay to zero."""
    up = min(1.0, (step + 1) / max(1, config.warmup))
    down = min(1.0, (steps - step) / max(1, config.decay)) if config.decay else 1.0
    return min(up, down)


@torch.no_grad()
def update_average(average: Sequence[Tensor], current: Sequence[Tensor], decay: float, step: int) -> None:
    """Exponential moving average in place; the first steps are averaged over a shorter past."""
    torch._foreach_lerp_(list(average), list(current), 1 - min(decay, (1 + step) / (10 + step)))
