"""Random crops of a memory-mapped collection of pictures; batch n is the same in every run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..core.errors import ReadError, reading
from ..media.patchify import ONE_FRAME, patchify
from ..media.pixels import from_uint8
from ..nn.packed import dense_coords
from ..tokens.patch import PATCH
from .batch import Batch, Sample, pack
from .collection import REMEDY, read_collection
from .config import CropsConfig
from .seeds import feed_seed

SCORES = "scores.npy"
"""What a teacher says of each picture of a collection, fp16 [pictures, texts]; only where all fit a crop whole."""


class Crops:
    """Batches of square crops with random flips, drawn by the weights that the index gives its pictures.

    Raises ``FileNotFoundError`` where the collection is missing and ``ValueError`` where a crop does not fit.
    """

    def __init__(self, config: CropsConfig, tokens: int, seed: int, rank: int = 0, task: str = "") -> None:
        folder = Path(config.path)
        missing = f"no training data at {folder}: run `python recipes/nano/data.py` first"
        self.config, self.tokens, self.seed = config, tokens, feed_seed(seed, task, rank)
        self.pixels, index = read_collection(folder, "train", ("height", "width", 3), ("weight",), missing)
        self.offset = np.array([entry["offset"] for entry in index])
        self.shape = np.array([(entry["height"], entry["width"]) for entry in index])
        self.captions = [entry.get("caption") for entry in index]
        with reading(folder / "train.json", REMEDY):
            self.weight = np.array([entry["weight"] for entry in index], float)
            if not (np.isfinite(self.weight) & (self.weight >= 0)).all():
                raise ReadError(f"{folder / 'train.json'} has weights below zero or none: {REMEDY}")
            if not all(caption is None or isinstance(caption, str) for caption in self.captions):
                raise ReadError(f"{folder / 'train.json'} has a caption that is no text: {REMEDY}")
        self.scores = np.load(folder / SCORES, mmap_mode="r") if (folder / SCORES).is_file() else None
        self.shares = np.array(config.shares) / sum(config.shares)
        # Pictures that each crop size fits into, as cumulative weights to draw from.
        self.fitting = {size: np.cumsum(np.where(self.shape.min(1) >= size, self.weight, 0)) for size in config.sizes}
        if unfit := [size for size, chances in self.fitting.items() if not chances.any()]:
            raise ValueError(f"no picture in {folder} is large enough for crops of {unfit[0]} pixels")
        if tokens < max(config.sizes) ** 2 // PATCH[1] ** 2:
            raise ValueError(
                f"a crop of {max(config.sizes)} pixels is larger than the task's budget of {tokens} tokens"
            )

    def batch(self, number: int) -> Batch:
        """Batch ``number``: samples of fp32 [n, 768] in [-1, 1], about ``tokens`` patches in all."""
        rng = np.random.default_rng((*self.seed, number))
        size = int(rng.choice(self.config.sizes, p=self.shares))
        drawn = [self.crop(rng, size) for _ in range(self.tokens // (size // PATCH[1]) ** 2)]
        captions = [self.captions[picture] for picture, _ in drawn]
        samples = picture_samples(np.stack([crop for _, crop in drawn]), captions)
        if self.scores is not None:
            told = [torch.from_numpy(self.scores[picture].astype(np.float32)) for picture, _ in drawn]
            samples = [replace(sample, scores=scores) for sample, scores in zip(samples, told, strict=True)]
        return pack(samples, seed=int(rng.integers(2**62)))

    def crop(self, rng: np.random.Generator, size: int) -> tuple[int, np.ndarray]:
        """A picture's number, and a crop of it, uint8 [size, size, 3]."""
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
        return picture, crop


def picture_samples(pictures: np.ndarray, captions: Sequence[str | None]) -> list[Sample]:
    """Samples of B pictures uint8 [B, S, S, 3] with a side of whole patches."""
    patches = patchify(torch.from_numpy(pictures)[:, None], ONE_FRAME)  # [B, 1, R, C, 768]
    feats, grid = from_uint8(patches.flatten(1, 3)), (*patches.shape[1:4], 1)
    coords = dense_coords(grid)
    return [Sample("image", part, coords, grid, caption) for part, caption in zip(feats, captions, strict=True)]
