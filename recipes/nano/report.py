"""Measure a model on the evaluation photographs, beside the best linear projection, JPEG and WebP, with a picture grid.

    python recipes/nano/report.py --model nano --data data/nano --eval data/eval --out runs/nano/report

Protocol: shorter side to 256 (Lanczos), centre 256 x 256 crop, uint8 RGB PSNR of each picture, mean over pictures.
Writes photographs.jpg (original beside reconstruction) and photographs.json.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, features

import atoken
from atoken.evaluation.psnr import centre_crop, psnr
from atoken.media.image import IMAGE_SUFFIXES, read_image, write_image
from atoken.training.config import CropsConfig
from atoken.training.crops import Crops
from atoken.training.linear_start import linear_start

LIMIT = 3072  # bytes of a 256 x 256 picture: 96 bits a patch, what eight 12-bit codes take
COLUMNS = 4


def linear_model(data: Path) -> atoken.AToken:
    """Nano as the best linear projection of the data's patches to 48 numbers."""
    crops = Crops(CropsConfig(str(data)), tokens=4096, seed=1)
    model = atoken.AToken(atoken.PRESETS["nano"]).eval()
    linear_start(model, torch.cat([crops.batch(step).packed.feats for step in range(64)]))
    return model


def codec(picture: np.ndarray, kind: str) -> np.ndarray:
    """The picture after the best quality of ``kind`` that stays within ``LIMIT`` bytes."""
    for quality in range(100, -1, -1):
        stream = io.BytesIO()
        options = {"optimize": True} if kind == "JPEG" else {"method": 6}
        Image.fromarray(picture).save(stream, kind, quality=quality, **options)
        if stream.tell() <= LIMIT:
            return np.asarray(Image.open(stream).convert("RGB"))
    raise ValueError(f"no {kind} quality keeps a picture within {LIMIT} bytes")


def grid(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Original beside reconstruction, ``COLUMNS`` pairs a row."""
    cells = [
        np.concatenate([np.pad(p, ((2, 2), (2, 2), (0, 0)), constant_values=255) for p in pair], 1) for pair in pairs
    ]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % COLUMNS)
    return np.concatenate([np.concatenate(cells[i : i + COLUMNS], 1) for i in range(0, len(cells), COLUMNS)])


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--data", type=Path, default=Path("data/nano"))
    parser.add_argument("--eval", type=Path, default=Path("data/eval"))
    parser.add_argument("--out", type=Path, default=Path("runs/nano/report"))
    args = parser.parse_args()

    paths = sorted(path for path in args.eval.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    pictures = [centre_crop(read_image(path)) for path in paths]
    model = atoken.load(args.model)
    results = {
        "model": [model.decode(model.encode(picture)) for picture in pictures],
        "linear": [
            linear.decode(linear.encode(picture)) for linear in [linear_model(args.data)] for picture in pictures
        ],
        "jpeg": [codec(picture, "JPEG") for picture in pictures],
        "webp": [codec(picture, "WEBP") for picture in pictures],
    }
    scores = {name: [psnr(a, b) for a, b in zip(done, pictures, strict=True)] for name, done in results.items()}
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    report = {
        "protocol": "shorter side 256 (Lanczos), centre crop 256, uint8 RGB, mean of per-picture PSNR in dB",
        "model": model.config.name,
        "weights": model.weights_hash,
        "pictures": [path.name for path in paths],
        "versions": {"atoken": atoken.__version__, "torch": torch.__version__, "webp": features.version("webp")},
        "psnr": means,
        "each": scores,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "photographs.json").write_text(json.dumps(report, indent=1) + "\n")
    write_image(args.out / "photographs.jpg", grid(list(zip(pictures, results["model"], strict=True))), quality=88)
    for index, path in enumerate(paths):
        print(f"{path.name:24}" + "".join(f"  {name} {scores[name][index]:6.2f}" for name in scores))
    print(f"{'mean of ' + str(len(paths)):24}" + "".join(f"  {name} {value:6.2f}" for name, value in means.items()))


if __name__ == "__main__":
    main()
