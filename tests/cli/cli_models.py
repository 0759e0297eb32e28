"""What several tests of the command line give their models: a small Gaussian head, and words that are colours."""

from __future__ import annotations

import numpy as np
import torch

from atoken import AToken, GaussianConfig

HEAD = GaussianConfig(64, 1, 2, 64, per_voxel=2, resolution=16, scale=0.02)


class Colours:
    """``red`` and ``blue`` are what a model says of red and blue pictures."""

    name, weights_hash = "colours", "0" * 64

    def __init__(self, model: AToken):
        self.vectors = {name: model.embed([paint(name)])[0] for name in ("red", "blue")}
        self.width = len(self.vectors["red"])

    def __call__(self, texts):
        return torch.stack([self.vectors["red" if "red" in item else "blue"] for item in texts])


def paint(colour: str) -> np.ndarray:
    """A picture of that colour: uint8 [32, 48, 3]."""
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[..., {"red": 0, "blue": 2}[colour]] = 230
    return picture
