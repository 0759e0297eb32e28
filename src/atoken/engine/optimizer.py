"""Parameter groups, optimizers and the learning rate's schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from ..nn.block import Block
from .config import OptimizerConfig
from .muon import Muon

STATES = {"adamw": frozenset({"step", "exp_avg", "exp_avg_sq"}), "muon": frozenset({"momentum_buffer"})}
"""What an optimizer keeps of each parameter, by its name."""


@dataclass(frozen=True, eq=False)
class ParameterGroup:
    """Parameters that share an optimizer, a scale of its learning rate and whether they decay."""

    name: str
    parameters: list[nn.Parameter]
    optimizer: str = "adamw"
    """"adamw" or "muon"; the latter for matrices alone."""
    lr_scale: float = 1.0
    decay: bool = False


def default_groups(module: nn.Module, config: OptimizerConfig) -> list[ParameterGroup]:
    """Matrices ("rest") decay, all else ("rest/plain") does not; with ``muon_lr`` those inside blocks go to Muon."""
    inside = {id(parameter) for block in blocks_of(module) for parameter in block.parameters()}
    groups: dict[tuple[str, str], list[nn.Parameter]] = {}
    for parameter in module.parameters():
        if parameter.requires_grad:
            matrix = parameter.ndim == 2
            muon = config.muon_lr is not None and matrix and id(parameter) in inside
            groups.setdefault(("muon" if muon else "adamw", "rest" if matrix else "rest/plain"), []).append(parameter)
    return [ParameterGroup(name, parameters, kind, decay=name == "rest") for (kind, name), parameters in groups.items()]


def blocks_of(module: nn.Module) -> list[nn.Module]:
    """All transformer blocks inside a module."""
    return [part for part in module.modules() if isinstance(part, Block)]


def build_optimizers(
    groups: Iterable[ParameterGroup], config: OptimizerConfig, fused: bool = False
) -> dict[str, torch.optim.Optimizer]:
    """AdamW, and Muon (arXiv 2502.16982) where a group asks for it. ``fused``: AdamW in one kernel.

    Groups of the optimizers keep ``name`` and ``scale`` of the learning rate, so that nothing is ever told apart by its
    current rate.
    """
    tables: dict[str, list[dict[str, object]]] = {}
    for group in groups:
        decay = config.weight_decay if group.decay else 0.0
        table = {"params": group.parameters, "name": group.name, "scale": group.lr_scale, "weight_decay": decay}
        tables.setdefault(group.optimizer, []).append(table)
    optimizers: dict[str, torch.optim.Optimizer] = {}
    for kind, own in sorted(tables.items()):
        if kind == "muon":
            assert config.muon_lr is not None
            optimizers[kind] = Muon(own, config.muon_lr)
        else:
            optimizers[kind] = torch.optim.AdamW(own, config.lr, config.betas, fused=fused or None)
    return optimizers


def set_lr(optimizers: dict[str, torch.optim.Optimizer], config: OptimizerConfig, scale: float) -> None:
    """Give every group ``scale`` times its full learning rate."""
    full = {"adamw": config.lr, "muon": config.muon_lr or 0.0}
    for kind, optimizer in optimizers.items():
        for group in optimizer.param_groups:
            group["lr"] = scale * full[kind] * group["scale"]


def lr_schedule(step: int, steps: int, config: OptimizerConfig) -> float:
    """Share of the full learning rate at ``step`` of ``steps``: linear warm-up, then the schedule down to ``final``."""
    up = min(1.0, (step + 1) / max(1, config.warmup))
    if config.schedule == "cosine":
        done = max(0.0, step - config.warmup) / max(1, steps - config.warmup)
        down = 0.5 * (1 + math.cos(math.pi * done))
    else:
        down = min(1.0, (steps - step) / max(1, config.decay)) if config.decay else 1.0
    return up * (config.final + (1 - config.final) * down)
