"""Clips for training, by seed and number: made from photographs and cut-out objects, or cut from packed videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..media.patchify import frames_to_patches
from ..tokens.patch import PATCH
from .batch import Batch, Sample, pack
from .collection import read_collection
from .config import ClipsConfig, CropsConfig
from .crops import Crops
from .cutouts import read_cutouts
from .seeds import feed_seed
from .synthetic_video import strided, synthetic_clip

ROOM = (1.25, 1.75, 2.5)
"""Sides of the part of a photograph that a made clip moves over, in sides of the clip."""
RATE = 25.0
"""Frames a second of made clips at stride 1."""
MOST_STAMPS = 3


class Clips:
    """Batches of clips of one size and length, drawn by seed and number: batch n is the same in every run.

    Raises ``FileNotFoundError`` where a folder is missing and ``ValueError`` where a clip does not fit.
    """

    def __init__(self, config: ClipsConfig, tokens: int, seed: int, rank: int = 0, task: str = "") -> None:
        self.config, self.tokens, self.seed = config, tokens, feed_seed(seed, task, rank)
        self.stamps = None if config.cutouts is None else Stamps(Path(config.cutouts))
        self.videos = None if config.videos is None else PackedVideos(Path(config.videos))
        self.shares = np.array(config.shares) / sum(config.shares)
        largest = max(config.sizes) ** 2 // PATCH[1] ** 2 * max(config.frames) // PATCH[0]
        if tokens < largest:
            raise ValueError(f"a clip of {largest} tokens is larger than the task's budget of {tokens}")
        sides = tuple(sorted({_side(size, room) for size in config.sizes for room in ROOM}))
        squares = CropsConfig(config.path, sizes=sides, shares=(1.0,) * len(sides), flat_below=config.flat_below)
        self.photos = Crops(squares, sides[-1] ** 2, seed, rank, task)

    def batch(self, number: int) -> Batch:
        """Batch ``number``: samples of fp32 [n, 3072] in [-1, 1], about ``tokens`` patches in all."""
        rng = np.random.default_rng((*self.seed, number))
        size = int(rng.choice(self.config.sizes, p=self.shares))
        frames = int(rng.choice(self.config.frames))
        count = self.tokens // (size**2 // PATCH[1] ** 2 * frames // PATCH[0])
        return pack([self._clip(rng, size, frames) for _ in range(count)], seed=int(rng.integers(2**62)))

    def _clip(self, rng: np.random.Generator, size: int, frames: int) -> Sample:
        real = self.videos is not None and rng.random() < self.config.real
        clip = self.videos.clip(rng, size, frames) if real and self.videos else self._made(rng, size, frames)
        if rng.random() < 0.5:
            clip = clip[:, :, ::-1]
        feats, coords, grid = frames_to_patches(np.ascontiguousarray(clip))
        return Sample("video", feats, coords, grid)

    def _made(self, rng: np.random.Generator, size: int, frames: int) -> np.ndarray:
        rooms = rng.choice(ROOM, 2)  # for the photograph, and for the one that may stand before it
        photos = [self.photos.crop(rng, _side(size, room))[1] for room in rooms]
        stamps = [] if self.stamps is None else [self.stamps.draw(rng) for _ in range(MOST_STAMPS)]
        fps = RATE / int(rng.integers(1, 4))
        made = synthetic_clip(photos, stamps, seed=int(rng.integers(2**62)), frames=frames, size=(size, size), fps=fps)
        return np.stack(list(made))


def _side(size: int, room: float) -> int:
    return round(size * room / PATCH[1]) * PATCH[1]


class Stamps:
    """The memory-mapped cut-out objects that recipes/nano/captions.py writes, those of the split ``train``."""

    def __init__(self, folder: Path) -> None:
        self.pixels, index = read_cutouts(folder, ("split",))
        self.entries = [entry for entry in index if entry["split"] == "train"]

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """One of them, uint8 [h, w, 4]."""
        entry = self.entries[int(rng.integers(len(self.entries)))]
        shape = entry["height"], entry["width"], 4
        return self.pixels[entry["offset"] : entry["offset"] + int(np.prod(shape))].reshape(shape)


class PackedVideos:
    """The memory-mapped frames that recipes/nano/videos.py writes of the clips for training."""

    def __init__(self, folder: Path) -> None:
        missing = f"no packed videos at {folder}: run `python recipes/nano/videos.py` first"
        self.pixels, self.entries = read_collection(folder, "train", ("frames", "height", "width", 3), (), missing)
        self.weights = np.array([entry["frames"] ** 0.5 for entry in self.entries])

    def clip(self, rng: np.random.Generator, size: int, frames: int) -> np.ndarray:
        """``frames`` frames uint8 [T, size, size, 3] at a stride of 1 to 3, or in one of four of 4 to 12.

        Raises ``ValueError`` where no video is large and long enough.
        """
        fits = [e["frames"] >= frames and min(e["height"], e["width"]) >= size for e in self.entries]
        weights = np.where(fits, self.weights, 0)
        if not weights.any():
            raise ValueError(f"no packed video has {frames} frames of {size} pixels or more")
        entry = self.entries[int(rng.choice(len(weights), p=weights / weights.sum()))]
        shape = entry["frames"], entry["height"], entry["width"], 3
        video = self.pixels[entry["offset"] : entry["offset"] + int(np.prod(shape))].reshape(shape)
        chosen = strided(entry["frames"], frames, rng, diverse=bool(rng.random() < 0.25))
        top, left = (int(rng.integers(side - size + 1)) for side in shape[1:3])
        return video[chosen, top : top + size, left : left + size]
