"""3D for training: voxels with their patches, and pictures of the asset that renderings are compared with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from ..core.errors import reading
from ..core.regular import below, read_regular
from ..media.views.cameras import Cameras
from ..media.views.packed import PackedAsset, read_packed
from .batch import Batch, Sample, Targets, pack
from .config import AssetsConfig
from .seeds import feed_seed


class Assets:
    """Batches of the objects that recipes/nano/furniture.py packs; batch n is the same in every run.

    A batch takes objects in random order, none twice, until ``most`` are there or the next one does not fit into what
    is left of ``tokens``; objects that are larger than ``tokens`` by themselves are passed over. Raises
    ``FileNotFoundError`` where the folder or its index is missing and ``ValueError`` for a split without objects or
    with none that fits.
    """

    def __init__(
        self, config: AssetsConfig, tokens: int, seed: int, rank: int = 0, task: str = "", most: int | None = None
    ) -> None:
        self.folder = Path(config.path)
        if not (self.folder / "index.json").is_file():
            raise FileNotFoundError(f"no packed assets at {self.folder}: run `python recipes/nano/furniture.py` first")
        self.config, self.tokens, self.most = config, tokens, most
        self.seed = feed_seed(seed, task, rank)
        with reading(self.folder / "index.json", "make it again"):
            index = json.loads(read_regular(self.folder / "index.json"))
            keys = ("id", "name", "category")
            self.entries = [{key: str(entry[key]) for key in keys} for entry in index if entry["split"] == config.split]
        if not self.entries:
            raise ValueError(f"{self.folder} has no objects of the split {config.split!r}")

    def batch(self, number: int) -> Batch:
        """Batch ``number``."""
        rng = np.random.default_rng((*self.seed, number))
        samples: list[Sample] = []
        used = 0
        for place in rng.permutation(len(self.entries)):
            entry = self.entries[place]
            asset = read_packed(below(self.folder, f"{entry['id']}.npz", self.folder / "index.json"))
            count = len(asset.at(self.config.voxels)[0])
            if count > self.tokens:
                continue
            if used + count > self.tokens or len(samples) == self.most:
                break
            caption = f"{entry['name']}, {entry['category']}".lower()
            config = self.config
            samples.append(asset_sample(asset, config.voxels, config.views, config.view_size, rng, caption))
            used += count
        if not samples:
            raise ValueError(f"no object of {self.folder} fits into {self.tokens} tokens")
        return pack(samples, seed=int(rng.integers(2**62)))


def asset_sample(
    asset: PackedAsset, side: int, views: int, view_size: int, rng: np.random.Generator, caption: str | None
) -> Sample:
    """Voxels of a grid of ``side``, with ``views`` pictures of the asset, if any are asked for.

    Raises ``ValueError`` where the asset was not packed for that grid or has no such pictures.
    """
    feats, coords, geometry = asset.patches(side)
    targets = draw_targets(asset, views, view_size, rng) if views else None
    return Sample("3d", feats, coords, geometry["grid"], caption, name=asset.name, views=targets)


def draw_targets(asset: PackedAsset, count: int, size: int, rng: np.random.Generator) -> Targets:
    """``count`` different pictures of the asset, of each a square of ``size`` pixels that shows some of it.

    Each square is centred, as far as the picture allows, on a pixel of the asset drawn at random.
    Raises ``ValueError`` where there are fewer or smaller pictures.
    """
    pictures, cameras = asset.pictures()
    if count > len(pictures) or size > pictures.shape[1]:
        raise ValueError(
            f"{asset.name} has {len(pictures)} pictures of {pictures.shape[1]} pixels, not {count} of {size} or more"
        )
    chosen = rng.choice(len(pictures), count, replace=False)
    squares, intrinsics = [], cameras.intrinsics[chosen].clone()
    for number, view in enumerate(chosen):
        shown = np.argwhere(pictures[view].any(-1))
        middle = shown[rng.integers(len(shown))] if len(shown) else np.array(pictures.shape[1:3]) // 2
        top, left = np.clip(middle - size // 2, 0, pictures.shape[1] - size)
        squares.append(pictures[view, top : top + size, left : left + size])
        intrinsics[number, 0, 2] -= int(left)
        intrinsics[number, 1, 2] -= int(top)
    colours = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 255
    return Targets(colours, Cameras(cameras.w2c[chosen], intrinsics, (size, size)))
