"""Gaussians at random, and a camera in front of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from atoken import Gaussians


def random_gaussians(count: int, seed: int = 0, scale: float = 0.05, dtype: torch.dtype = torch.float32) -> Gaussians:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return Gaussians(
        means=normal(count, 3).clamp(-1.5, 1.5) * 0.25,
        log_scales=normal(count, 3) * 0.4 + torch.tensor(scale).log().to(dtype),
        rotations=normal(count, 4),
        logits=normal(count) * 2,
        sh=normal(count, 3),
    )


@pytest.fixture
def cloud() -> Callable[..., Gaussians]:
    return random_gaussians
