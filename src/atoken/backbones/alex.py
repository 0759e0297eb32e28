"""The AlexNet trunk (the one-column variant of arXiv 1404.5997), for LPIPS as most papers report it."""

from __future__ import annotations

from pathlib import Path

import torch

from .torchvision import Trunk, load_trunk

PLAN = ((0, 4, 2), "pool", (3, 1, 2), "pool", (6, 1, 1), (8, 1, 1), (10, 1, 1))
LAYERS = {"relu1": 0, "relu2": 3, "relu3": 6, "relu4": 8, "relu5": 10}


def alexnet(path: str | Path, *, device: str | torch.device = "cpu") -> Trunk:
    """The convolutions of AlexNet from torchvision's ``alexnet-owt-7be5be79.pth`` (or any file with its keys).

    Raises ``FileNotFoundError`` or ``ValueError``.
    """
    return load_trunk("alexnet", path, PLAN, (3, 2), LAYERS, 31, device)
