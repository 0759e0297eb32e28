"""Ask the teacher of nano's alignment once what it sees, so that training does not wait for it.

    python recipes/nano/teacher.py --out data/taught     # after data.py and captions.py; some ten minutes on one core

Crops of the training photographs and cut-outs on grounds are shown to EfficientNet-Lite2 at its own 260 pixels and kept
at 128 with its log-probabilities over ImageNet's 1,000 classes: ``train`` has ``train.bin``, ``train.json`` and
``scores.npy`` as the trainer's crops read them; ``test`` the same of photographs that ``train`` has no crops of.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track

from atoken.backbones.lite0 import lite2
from atoken.core.files import atomic_write
from atoken.data.config import CutoutsConfig
from atoken.data.crops import SCORES
from atoken.data.cutouts import Cutouts
from atoken.media.pixels import from_uint8, to_uint8
from atoken.train.teachers import ClassTeacher

SIDE, BATCH = 128, 16
TEST_SHARE = 0.1
"""Of the scenes."""

STAMPS = "tuxpaint-stamps-default/"
"""Pictures left out of the photographs: some show the stamps that captions.py keeps apart."""


def is_test(source: str) -> bool:
    """Whether a scene is kept apart, from its name alone."""
    return int.from_bytes(hashlib.sha256(source.encode()).digest()[:4], "big") / 2**32 < TEST_SHARE


def photographs(folder: Path, count: int, test: bool, rng: np.random.Generator) -> Iterator[Image.Image]:
    """Square crops of half the shorter side or more, of pictures drawn by weight."""
    index = json.loads((folder / "train.json").read_text())
    index = [entry for entry in index if is_test(entry["source"]) == test and not entry["source"].startswith(STAMPS)]
    pixels = np.memmap(folder / "train.bin", np.uint8, "r")
    weight = np.array([entry["weight"] * (min(entry["height"], entry["width"]) >= 256) for entry in index])
    for number in rng.choice(len(index), count, p=weight / weight.sum()):
        entry = index[number]
        height, width = entry["height"], entry["width"]
        whole = pixels[entry["offset"] : entry["offset"] + height * width * 3].reshape(height, width, 3)
        side = int(rng.uniform(0.5, 1.0) * min(height, width))
        top, left = (int(rng.integers(length - side + 1)) for length in (height, width))
        yield Image.fromarray(whole[top : top + side, left : left + side])


def objects(folder: Path, grounds: Path, count: int, size: int, seed: int) -> Iterator[Image.Image]:
    """Cut-outs of the training split on plain colours and photographs, at the teacher's size."""
    feed = Cutouts(CutoutsConfig(str(folder), str(grounds), size=size), 16 * (size // 16) ** 2, seed)
    for number in range(-(-count // feed.count)):
        batch = feed.batch(number)
        for picture in batch.pictures(batch.packed.feats)[: count - number * feed.count]:
            pixels = to_uint8(picture.permute(1, 2, 0))
            yield Image.fromarray(pixels.numpy())


def write(pictures: Iterator[Image.Image], total: int, teacher: ClassTeacher, out: Path) -> None:
    """Pictures at ``SIDE`` pixels and what the teacher says of them at its own size."""
    out.mkdir(parents=True, exist_ok=True)
    scores, waiting = [], []
    with atomic_write(out / "train.bin") as temporary, open(temporary, "wb") as file:
        for number, picture in enumerate(track(pictures, out.name, total), start=1):
            size = teacher.network.size
            seen = np.array(picture.resize((size, size), Image.Resampling.BICUBIC))
            waiting.append(from_uint8(torch.from_numpy(seen).permute(2, 0, 1)))
            file.write(np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)).tobytes())
            if len(waiting) == BATCH or number == total:
                scores.append(teacher.scores(torch.stack(waiting)).half().numpy())
                waiting = []
    index = [{"offset": n * SIDE * SIDE * 3, "height": SIDE, "width": SIDE, "weight": 1.0} for n in range(total)]
    with atomic_write(out / "train.json") as temporary:
        temporary.write_text(json.dumps(index))
    with atomic_write(out / SCORES) as temporary, open(temporary, "wb") as file:
        np.save(file, np.concatenate(scores))


def main() -> None:
    """Write both splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/taught"))
    parser.add_argument("--photographs", type=Path, default=Path("data/nano"))
    parser.add_argument("--captions", type=Path, default=Path("data/captions"))
    parser.add_argument("--counts", type=int, nargs=3, default=(4000, 3500, 500), help="photographs, objects, test")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    network = lite2(dtype=torch.bfloat16)
    teacher = ClassTeacher(network, torch.zeros(1000, 1))  # its texts are of no use here
    photos, cutouts, test = arguments.counts
    rng = np.random.default_rng(arguments.seed)
    write(photographs(arguments.photographs, test, True, rng), test, teacher, arguments.out / "test")

    def everything() -> Iterator[Image.Image]:
        yield from photographs(arguments.photographs, photos, False, rng)
        yield from objects(arguments.captions, arguments.photographs, cutouts, 256, arguments.seed)

    write(everything(), photos + cutouts, teacher, arguments.out / "train")


if __name__ == "__main__":
    main()
