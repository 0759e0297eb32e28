"""Random crops of a memory-mapped collection of pictures; step n gives the same batch in every run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from ..config import PATCH
from ..tokens import Packed, dense_coords
from .config import DataConfig


class Crops:
    """Batches of square crops with random flips, drawn by the weights that the index gives its pictures.

    Raises ``FileNotFoundError`` where the collection is missing and ``ValueError`` where a crop does not fit.
    """

    def __init__(self, config: DataConfig, tokens_per_step: int, seed: int) -> None:
        folder = Path(config.path)
        if not (folder / "train.json").is_file():
            raise FileNotFoundError(f"no training data at {folder}: run `python recipes/nano/data.py` first")
        self.config, self.tokens_per_step, self.seed = config, tokens_per_step, seed
        self.pixels = np.memmap(folder / "train.bin", np.uint8, "r")
        index = json.loads((folder / "train.json").read_text())
        self.offset = np.array([entry["offset"] for entry in index])
        self.shape = np.array([(entry["height"], entry["width"]) for entry in index])
        self.weight = np.array([entry["weight"] for entry in index], float)
        self.shares = np.array(config.crop_shares) / sum(config.crop_shares)
        # Pictures that each crop size fits into, as cumulative weights to draw from.
        self.fitting = {
            size: np.cumsum(np.where(self.shape.min(1) >= size, self.weight, 0)) for size in config.crop_sizes
        }
        if missing := [size for size, cumulative in self.fitting.items() if cumulative[-1] == 0]:
            raise ValueError(f"no picture in {folder} is large enough for crops of {missing[0]} pixels")

    def batch(self, step: int) -> Packed:
        """The batch of ``step``: patches fp32 [N, 768] in [-1, 1], about ``tokens_per_step`` of them."""
        rng = np.random.default_rng((self.seed, step))
        size = int(rng.choice(self.config.crop_sizes, p=self.shares))
        side = size // PATCH[1]
        count = max(1, self.tokens_per_step // side**2)
        crops = torch.from_numpy(np.stack([self._crop(rng, size) for _ in range(count)]))
        blocks = crops.view(count, side, PATCH[1], side, PATCH[2], 3).transpose(2, 3)  # [B, R, C, 16, 16, 3]
        feats = blocks.reshape(count * side**2, -1).float().div_(127.5).sub_(1)
        coords = dense_coords((1, side, side, 1)).repeat(count, 1)
        sample = torch.arange(count, dtype=torch.int32).repeat_interleave(side**2)
        return Packed(feats, torch.cat([sample[:, None], coords], 1))

    def _crop(self, rng: np.random.Generator, size: int) -> np.ndarray:
        cumulative = self.fitting[size]
        while True:
            picture = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
            height, width = self.shape[picture]
            top, left = rng.integers(height - size + 1), rng.integers(width - size + 1)
            start = self.offset[picture]
            pixels = self.pixels[start : start + height * width * 3].reshape(height, width, 3)
            crop = pixels[top : top + size, left : left + size]
            if crop[::4, ::4].std() >= self.config.flat_below or rng.random() < 0.25:
                break
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        return crop
