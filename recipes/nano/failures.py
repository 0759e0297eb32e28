"""Draw where nano fails: of each bundled photograph the square that comes back worst, enlarged.

    python recipes/nano/failures.py --out docs/failures.jpg

Rows are the original and what continuous and discrete tokens give back; the PSNR of each square is printed.
"""

from __future__ import annotations

import argparse
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from PIL import Image

import atoken
from atoken.demo.images import PHOTOGRAPHS
from atoken.metrics.psnr import psnr

SIDE, STEP, ZOOM, GAP = 96, 16, 3, 6
"""Pixels of a square, between the squares that are compared, of one pixel when drawn, between squares when drawn."""


def worst(original: np.ndarray, back: np.ndarray) -> tuple[slice, slice]:
    """Where the square of uint8 HWC pictures with the largest squared error lies."""
    error = np.square(original.astype(np.float64) - back).sum(-1)
    height, width = error.shape
    places = [(top, left) for top in range(0, height - SIDE + 1, STEP) for left in range(0, width - SIDE + 1, STEP)]
    top, left = max(places, key=lambda place: error[place[0] : place[0] + SIDE, place[1] : place[1] + SIDE].sum())
    return slice(top, top + SIDE), slice(left, left + SIDE)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["nano", "nano-discrete"])
    parser.add_argument("--out", type=Path, default=Path("docs/failures.jpg"))
    args = parser.parse_args()
    models = {name: atoken.load(name) for name in args.models}
    columns = []
    for photograph in PHOTOGRAPHS:
        with as_file(files("atoken").joinpath(f"assets/photos/{photograph}.jpg")) as path:
            original = atoken.read_image(path)
        backs = [model.decode(model.encode(original)) for model in models.values()]
        square = worst(original, backs[0])
        scores = ", ".join(
            f"{name} {psnr(back[square], original[square]):.1f} dB" for name, back in zip(models, backs, strict=True)
        )
        print(f"{photograph}: {scores}")
        cells = [
            np.asarray(Image.fromarray(picture[square]).resize((SIDE * ZOOM, SIDE * ZOOM), Image.Resampling.NEAREST))
            for picture in (original, *backs)
        ]
        columns.append(np.concatenate([np.pad(c, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for c in cells]))
    atoken.write_image(args.out, np.concatenate(columns, 1)[:-GAP, :-GAP], quality=90)


if __name__ == "__main__":
    main()
