"""Pages of text as pictures: a domain that nano has not seen, for the fine-tuning recipe beside this file.

    python recipes/finetune/pages.py data/pages

Writes ``train/`` and ``held-out/`` with pages of 256 pixels: source files of Python's own library, in sizes and
colours drawn at random. No module is in both. The font is Pillow's own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE, TRAIN, HELD_OUT = 256, 400, 16


def page(text: str, rng: np.random.Generator) -> Image.Image:
    """A square of text, dark on light or light on dark."""
    ground, ink = rng.integers(190, 256, 3), rng.integers(0, 90, 3)
    if rng.random() < 0.3:
        ground, ink = ink, ground
    picture = Image.new("RGB", (SIDE, SIDE), tuple(int(value) for value in ground))
    font = ImageFont.load_default(int(rng.integers(9, 22)))
    ImageDraw.Draw(picture).multiline_text((6, 6), text, tuple(int(value) for value in ink), font)
    return picture


def main(out: Path) -> None:
    """Write the pages."""
    modules = sorted(Path(sys.modules["os"].__file__ or "").parent.glob("*.py"))
    rng = np.random.default_rng(0)
    modules = [modules[int(number)] for number in rng.permutation(len(modules))]
    for name, count, sources in (("held-out", HELD_OUT, modules[:20]), ("train", TRAIN, modules[20:])):
        (out / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            lines = sources[number % len(sources)].read_text(encoding="utf-8", errors="replace").splitlines()
            start = int(rng.integers(max(1, len(lines) - 30)))
            page("\n".join(lines[start : start + 30]), rng).save(out / name / f"{number:04d}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
