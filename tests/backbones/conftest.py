"""Pictures, and weight files in torchvision's format with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

SHAPES = {
    "vgg16": {0: (64, 3, 3), 2: (64, 64, 3), 5: (128, 64, 3), 7: (128, 128, 3), 10: (256, 128, 3), 12: (256, 256, 3)}
    | {14: (256, 256, 3), 17: (512, 256, 3)}
    | {number: (512, 512, 3) for number in (19, 21, 24, 26, 28)},
    "alexnet": {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)},
}


@pytest.fixture(scope="session")
def trunk_file(tmp_path_factory) -> Callable[[str], Path]:
    """A state dict with the names and shapes of torchvision's, the same for the same name."""

    def make(name: str) -> Path:
        path = tmp_path_factory.getbasetemp() / f"{name}.pth"
        if not path.is_file():
            shapes: dict[str, tuple[int, ...]] = {}
            for number, (out, inner, kernel) in SHAPES[name].items():
                shapes[f"features.{number}.bias"] = (out,)
                shapes[f"features.{number}.weight"] = (out, inner, kernel, kernel)
            state = {}
            for seed, key in enumerate(sorted(shapes)):
                shape = shapes[key]
                spread = (2 / torch.Size(shape[1:]).numel()) ** 0.5 if len(shape) > 1 else 0.1
                state[key] = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * spread
            torch.save(state, path)
        return path

    return make


@pytest.fixture(scope="session")
def pair() -> tuple[Tensor, Tensor]:
    """Two pictures [2, 3, 64, 80] in [-1, 1] and the same with noise."""
    generator = torch.Generator().manual_seed(99)
    a = torch.rand(2, 3, 64, 80, generator=generator) * 2 - 1
    return a, (a + torch.randn(a.shape, generator=generator) * 0.3).clamp(-1, 1)
