"""Muon (arXiv 2502.16982): momentum made orthogonal by four polynomials, equal shapes in one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from .foreach import foreach

QUINTICS = (
    (8.3007, -24.0375, 17.4661),
    (4.0034, -2.9228, 0.5419),
    (3.4709, -2.5494, 0.5002),
    (2.4901, -1.8343, 0.4368),
)
"""Odd polynomials that one after the other bring singular values between 0.003 and 1 to within a fifth of 1: each is
the best for the interval that those before leave (Polar Express, arXiv 2505.16932), for values larger by 1 % but in the
last."""


def orthogonalize(matrices: Tensor) -> Tensor:
    """Nearest (semi-)orthogonal matrices, roughly, of [B, m, n]: bf16.

    Singular values come between 0.78 and 1.2 where they were over 0.003 of the matrix's norm.
    """
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    size = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True, dtype=torch.float32)
    x = x / (size + 1e-7).bfloat16()
    for a, b, c in QUINTICS:
        gram = x @ x.mT  # [B, m, m]
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal: torch.optim.Muon with other polynomials, equal shapes in one batched product.

    The update of a matrix [m, n] is scaled by sqrt(max(1, m / n)); weight decay is decoupled.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step on all matrices that have a gradient."""
        assert closure is None
        for group in self.param_groups:
            shapes: dict[tuple[int, ...], list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes.setdefault(tuple(parameter.shape), []).append(parameter)
            for (rows, columns), parameters in shapes.items():
                directions = orthogonalize(self._momentum(parameters, group["momentum"]))
                if group["weight_decay"]:
                    foreach("mul_", parameters, 1 - group["lr"] * group["weight_decay"])
                scale = max(1.0, rows / columns) ** 0.5
                updates = list(directions.to(parameters[0].dtype).unbind())
                foreach("add_", parameters, updates, alpha=-group["lr"] * scale)

    def _momentum(self, parameters: list[Tensor], momentum: float) -> Tensor:
        """Nesterov momentum of B parameters of one shape: bf16 [B, m, n]."""
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        foreach("lerp_", buffers, gradients, 1 - momentum)
        return torch.stack(foreach("lerp", gradients, buffers, momentum)).bfloat16()
