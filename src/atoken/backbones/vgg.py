"""The VGG16 trunk (arXiv 1409.1556): what LPIPS and FID-like comparisons of textures usually read."""

from __future__ import annotations

from pathlib import Path

import torch

from .torchvision import Trunk, load_trunk

PLAN = (
    *((0, 1, 1), (2, 1, 1), "pool"),
    *((5, 1, 1), (7, 1, 1), "pool"),
    *((10, 1, 1), (12, 1, 1), (14, 1, 1), "pool"),
    *((17, 1, 1), (19, 1, 1), (21, 1, 1), "pool"),
    *((24, 1, 1), (26, 1, 1), (28, 1, 1)),
)
LAYERS = {"relu1_2": 2, "relu2_2": 7, "relu3_3": 14, "relu4_3": 21, "relu5_3": 28}


def vgg16(path: str | Path, *, device: str | torch.device = "cpu") -> Trunk:
    """The convolutions of VGG16 from torchvision's ``vgg16-397923af.pth`` (or any file with its ``features.N`` keys).

    ``layers`` are the last ReLU of each of the five stages. Raises ``FileNotFoundError`` or ``ValueError``.
    """
    return load_trunk("vgg16", path, PLAN, (2, 2), LAYERS, 16, device)
