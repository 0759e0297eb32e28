"""Pictures of single objects with captions: cut-outs laid anew on photographs or plain colours, by seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..core.errors import reading
from ..tokens.patch import PATCH
from .batch import Batch, pack
from .collection import REMEDY, read_collection
from .config import CropsConfig, CutoutsConfig
from .crops import Crops, picture_samples
from .seeds import feed_seed

SCALES = (0.5, 1.0)
"""Longer side of an object, relative to the picture's."""


def read_cutouts(folder: Path, needs: tuple[str, ...]) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Bytes and entries of the cut-out objects (RGBA) in a folder; raises as ``read_collection``."""
    missing = f"no cut-outs at {folder}: run `python recipes/nano/captions.py` first"
    return read_collection(folder, "cutouts", ("height", "width", 4), needs, missing)


@dataclass(frozen=True)
class Object:
    """One object of the collection: where its cut-outs lie, and what is said of it."""

    captions: tuple[str, ...]
    places: tuple[tuple[int, int, int], ...]
    """Offset, height and width of each."""


class Cutouts:
    """Batches of square pictures, each of another object of the training split; batch n is the same in every run.

    Raises ``FileNotFoundError`` where the collection is missing and ``ValueError`` where it has nothing fitting.
    """

    def __init__(self, config: CutoutsConfig, tokens: int, seed: int, rank: int = 0, task: str = "") -> None:
        folder = Path(config.path)
        self.config, self.seed = config, feed_seed(seed, task, rank)
        self.pixels, entries = read_cutouts(folder, ("split", "kind", "name", "captions"))
        with reading(folder / "cutouts.json", REMEDY):
            self.objects = _objects(entries, config.kinds)
        self.count = min(tokens // (config.size // PATCH[1]) ** 2, len(self.objects))
        if not self.count:
            raise ValueError(f"{folder} has no training objects of the kinds wanted that fit into {tokens} tokens")
        self.grounds: Crops | None = None
        if config.grounds is not None:
            self.grounds = Crops(CropsConfig(config.grounds, (config.size,), (1.0,)), tokens, seed, rank, task)

    def batch(self, number: int) -> Batch:
        """Batch ``number``: samples of fp32 [n, 768] in [-1, 1] with their captions, about ``tokens`` patches."""
        rng = np.random.default_rng((*self.seed, number))
        chosen = [self.objects[i] for i in rng.choice(len(self.objects), self.count, replace=False)]
        pictures = np.stack([self._picture(rng, thing) for thing in chosen])
        captions = [thing.captions[int(rng.integers(len(thing.captions)))] for thing in chosen]
        return pack(picture_samples(pictures, captions), seed=int(rng.integers(2**62)))

    def _picture(self, rng: np.random.Generator, thing: Object) -> np.ndarray:
        """One of an object's cut-outs on a ground of its own, uint8 [size, size, 3]."""
        offset, height, width = thing.places[int(rng.integers(len(thing.places)))]
        pixels = self.pixels[offset : offset + height * width * 4].reshape(height, width, 4)
        size = self.config.size
        scale = float(rng.uniform(*SCALES)) * size / max(height, width)
        shape = (max(1, round(width * scale)), max(1, round(height * scale)))
        cut = Image.fromarray(pixels).resize(shape, Image.Resampling.BILINEAR)
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        left, top = (int(rng.integers(size - side + 1)) for side in shape)
        mirrored = rng.random() < 0.5
        plain = self.grounds is None or rng.random() < self.config.plain
        ground = Image.new("RGB", (size, size), colour)
        if not plain:
            assert self.grounds is not None
            ground = Image.fromarray(self.grounds.crop(rng, size)[1])
        if mirrored:
            cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        ground.paste(cut, (left, top), cut)
        return np.asarray(ground)


def _objects(entries: list[dict[str, Any]], kinds: tuple[str, ...]) -> list[Object]:
    """The objects of the training split in the order of the index, each with all of its cut-outs."""
    captions: dict[str, tuple[str, ...]] = {}
    places: dict[str, list[tuple[int, int, int]]] = {}
    for entry in entries:
        if entry["split"] != "train" or (kinds and entry["kind"] not in kinds):
            continue
        name = str(entry["name"])
        captions[name] = tuple(entry["captions"])
        if not captions[name] or not all(isinstance(caption, str) for caption in captions[name]):
            raise ValueError(f"{name} has no captions")
        places.setdefault(name, []).append((entry["offset"], entry["height"], entry["width"]))
    return [Object(captions[name], tuple(where)) for name, where in places.items()]
