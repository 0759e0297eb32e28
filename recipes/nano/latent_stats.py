"""Measure mean and deviation of each latent channel over training pictures, and keep them in a model's config.json.

    python recipes/nano/data.py --out data/nano --eval-out data/eval
    python recipes/nano/latent_stats.py --data data/nano --model src/atoken/weights/nano

Crops are drawn as in training: pictures by their weights, places at random. `model.latent_stats` gives the numbers.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.progress import track

import atoken
from atoken.data.config import CropsConfig
from atoken.data.crops import Crops
from atoken.tokenizer.latent_stats import ChannelStats
from atoken.weights.config import CONFIG, write_config
from atoken.weights.files import config_values


def drawn(folder: Path, count: int, size: int, seed: int) -> Iterator[np.ndarray]:
    """Crops uint8 [size, size, 3]."""
    crops = Crops(CropsConfig(str(folder), sizes=(size,)), (size // 16) ** 2, seed)
    rng = np.random.default_rng(seed)
    for _ in track(range(count), "crops"):
        yield np.ascontiguousarray(crops.crop(rng, size)[1])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of train.bin and train.json")
    parser.add_argument("--model", type=Path, required=True, help="folder of a model with continuous tokens")
    parser.add_argument("--count", type=int, default=4000, help="crops")
    parser.add_argument("--size", type=int, default=256, help="side of a crop in pixels")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = atoken.load(options.model)
    data = f"{options.count} crops of {options.size} pixels out of the training pictures of {options.data.name}"
    crops = drawn(options.data, options.count, options.size, options.seed)
    latents = (model.encode(crop, kind="continuous").latents for crop in crops)
    model.latent_stats = ChannelStats.of(latents, data=data, weights=model.weights_hash)
    write_config(options.model / CONFIG, config_values(model))


if __name__ == "__main__":
    main()
