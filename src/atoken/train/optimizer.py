"""Parameter groups, learning rate and moving average."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .config import OptimizerConfig
from .muon import Muon


def build_optimizers(
    model: nn.Module, config: OptimizerConfig, fused: bool = False
) -> dict[str, torch.optim.Optimizer]:
    """AdamW, and with ``muon_lr`` also Muon (arXiv 2502.16982) on the matrices inside the blocks.

    Every parameter group has a ``name`` ("encoder" or "rest", with "/plain" where weights do not decay) and a
    ``scale`` of the learning rate, so that nothing is ever told apart by its current rate. ``fused``: AdamW in one
    kernel.
    """
    groups: dict[tuple[str, str], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        matrix = parameter.ndim == 2 and "gamma" not in name and "position_embedding" not in name
        kind = "muon" if config.muon_lr is not None and matrix and ".blocks." in name else "adamw"
        part = "encoder" if ".encoder." in f".{name}" else "rest"
        groups.setdefault((kind, part if matrix else f"{part}/plain"), []).append(parameter)
    optimizers: dict[str, torch.optim.Optimizer] = {}
    for kind in sorted({kind for kind, _ in groups}):
        tables = [
            {
                "params": parameters,
                "name": group,
                "scale": config.encoder_scale if group.startswith("encoder") else 1.0,
                "weight_decay": 0.0 if group.endswith("/plain") else config.weight_decay,
            }
            for (owner, group), parameters in groups.items()
            if owner == kind
        ]
        if kind == "muon":
            assert config.muon_lr is not None
            optimizers[kind] = Muon(tables, config.muon_lr)
        else:
            optimizers[kind] = torch.optim.AdamW(tables, config.lr, config.betas, fused=fused or None)
    return optimizers


def set_rates(optimizers: dict[str, torch.optim.Optimizer], config: OptimizerConfig, share: float) -> None:
    """Give every group ``share`` of its full learning rate."""
    full = {"adamw": config.lr, "muon": config.muon_lr or 0.0}
    for kind, optimizer in optimizers.items():
        for group in optimizer.param_groups:
            group["lr"] = share * full[kind] * group["scale"]


def rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """Share of the full learning rate at ``step`` of ``steps``: linear warm-up, then the schedule down to ``final``."""
    up = min(1.0, (step + 1) / max(1, config.warmup))
    if config.schedule == "cosine":
        done = max(0.0, step - config.warmup) / max(1, steps - config.warmup)
        down = 0.5 * (1 + math.cos(math.pi * done))
    else:
        down = min(1.0, (steps - step) / max(1, config.decay)) if config.decay else 1.0
    return up * (config.final + (1 - config.final) * down)


class Average:
    """Exponential moving average of a module's trainable parameters; sharded where they are."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.current = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
        self.values = {name: parameter.detach().clone() for name, parameter in self.current.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after ``step``; the first steps are averaged over a shorter past."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(local(self.values.values()), local(self.current.values()), weight)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the module has the averaged weights."""
        kept = {name: parameter.detach().clone() for name, parameter in self.current.items()}
        self._put(self.values)
        try:
            yield
        finally:
            self._put(kept)

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        torch._foreach_copy_(local(self.current.values()), local(values[name] for name in self.current))


def local(tensors: Iterable[Tensor]) -> list[Tensor]:
    """This rank's part of each tensor: itself, unless it is sharded."""
    return [getattr(tensor, "_local_tensor", tensor) for tensor in tensors]
