"""What every frozen network has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn


class FrozenNetwork(nn.Module, ABC):
    """A network whose weights never change, and through which gradients flow to the picture.

    Pictures are RGB [B, 3, H, W] in [-1, 1] for all of them; ``mean`` and ``std`` are those of the network's training,
    for pixels in [0, 1].
    """

    layers: tuple[str, ...]
    """Names of what ``features`` returns, in order."""
    size: int
    """Side in pixels of the pictures that the network was trained on."""
    least = 1
    """Pixels that a side of a picture must have."""

    def __init__(self, name: str, weights_hash: str, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.name = name
        """Which network and weights, for reports."""
        self.weights_hash = weights_hash
        """SHA-256 of the weight file, or of the weights where they come from several files."""
        shift, scale = torch.tensor(mean) * 2 - 1, torch.tensor(std) * 2
        self.register_buffer("shift", shift.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", scale.view(1, 3, 1, 1), persistent=False)

    @abstractmethod
    def features(self, images: Tensor) -> list[Tensor]:
        """Feature maps [B, C, h, w] of RGB images [B, 3, H, W] in [-1, 1], one for each of ``layers``."""

    def normalise(self, images: Tensor) -> Tensor:
        """Images in [-1, 1] as the network wants them. Raises ``ValueError`` for another shape."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"{self.name} reads pictures [B, 3, H, W], not {list(images.shape)}")
        shift, scale = self.get_buffer("shift"), self.get_buffer("scale")
        return (images - shift) / scale

    def freeze(self) -> None:
        """Evaluation mode, and no gradients for the weights."""
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> FrozenNetwork:
        """Stays in evaluation mode, whatever a trainer that owns it asks for."""
        return super().train(False)


def weight_file(path: str | Path, what: str, where: str) -> Path:
    """``path`` if it is a file; ``FileNotFoundError`` that says what it should be and where to get it otherwise."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no {what} at {path}: {where}")
    return path
