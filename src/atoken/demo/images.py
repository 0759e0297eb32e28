"""The photographs of the demo: there and back, with what it cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from ..media.image.files import read_image
from ..metrics.psnr import psnr
from ..pipeline.atoken import AToken
from ..tokens.patch import FRAME_FEATURES, PATCH
from ..tokens.tokens import Tokens
from . import page
from .overview import Column, colours, patches

GAIN = 4
"""How much stronger than it is the difference is drawn."""
PHOTOGRAPHS = {
    "astronaut": "Eileen Collins, by NASA",
    "coffee": "A cup of coffee, by Rachel Michetti",
    "chelsea": "Chelsea the cat, by Stéfan van der Walt",
    "rocket": "Falcon 9, by SpaceX",
}


@dataclass(frozen=True)
class Photograph:
    """A picture, its tokens and what came back."""

    name: str
    original: np.ndarray
    tokens: Tokens
    reconstruction: np.ndarray
    file: Path
    encode_seconds: float
    decode_seconds: float

    @property
    def row(self) -> tuple[str, ...]:
        """Name, size, tokens, bytes, PSNR in dB and seconds of both directions, as text."""
        height, width = self.tokens.size
        seconds = self.encode_seconds + self.decode_seconds
        return (
            self.name,
            f"{width}×{height}",
            str(len(self.tokens)),
            f"{self.file.stat().st_size:,}",
            f"{psnr(self.reconstruction, self.original):.2f}",
            f"{seconds:.2f}",
        )


HEADER = ("photograph", "pixels", "tokens", "bytes", "PSNR dB", "seconds")


def reconstruct(model: AToken, folder: Path) -> list[Photograph]:
    """The bundled photographs through ``model``; tokens are written to ``folder`` and read from there again."""
    model.decode(model.encode(np.zeros((64, 64, 3), np.uint8)))  # the first call of anything is slower
    done = []
    for name in PHOTOGRAPHS:
        with as_file(files("atoken").joinpath(f"assets/photos/{name}.jpg")) as path:
            original = read_image(path)
        start = time.perf_counter()
        tokens = model.encode(original)
        middle = time.perf_counter()
        file = folder / f"{name}.atok"
        tokens.half().save(file)
        stored = Tokens.load(file)
        again = time.perf_counter()
        reconstruction = model.decode(stored)
        end = time.perf_counter()
        done.append(Photograph(name, original, stored, reconstruction, file, middle - start, end - again))
    return done


def section(photographs: Sequence[Photograph]) -> page.Section:
    """The first section of the page."""
    painted = colours([photograph.tokens for photograph in photographs])
    mosaics = [patches(photograph.tokens, paint) for photograph, paint in zip(photographs, painted, strict=True)]
    first, tokens = photographs[0], photographs[0].tokens
    rows, columns = tokens.grid[1:3]
    numbers = tokens.latents.float().numpy()
    whole = [_whole_patches(x, (rows, columns)) for x in (first.original, mosaics[0], first.reconstruction)]
    left, middle, right = (page.embed(picture, quality=90) for picture in whole)
    body = page.explorer(left, middle, right, (rows, columns), numbers)

    pixels = sum(photograph.original.size for photograph in photographs)
    kept = sum(photograph.tokens.latents.numel() for photograph in photographs)
    seconds = [sum(getattr(p, f"{way}_seconds") for p in photographs) for way in ("encode", "decode")]
    mean = np.mean([psnr(p.reconstruction, p.original) for p in photographs])
    body += page.facts(
        [
            (f"1 : {pixels / kept:.0f}", "numbers kept, against red, green and blue of every pixel"),
            (f"{mean:.1f} dB", f"mean PSNR of the {len(photographs)} photographs"),
            (f"{seconds[0]:.2f} s", "to encode all of them on this machine"),
            (f"{seconds[1]:.2f} s", "to decode them again"),
        ]
    )
    body += "<p class='hint'>Click a picture to zoom into all of its row, drag to move, click again to leave.</p>"
    for photograph, drawn in zip(photographs, mosaics, strict=True):
        body += f"<h3>{PHOTOGRAPHS[photograph.name]}</h3>"
        change = photograph.reconstruction.astype(np.int16) - photograph.original
        difference = np.clip(128 + GAIN * change, 0, 255).astype(np.uint8)
        body += page.views(
            [
                ("original", page.embed(photograph.original)),
                ("reconstruction", page.embed(photograph.reconstruction)),
                (f"difference, {GAIN} times as strong (grey: none)", page.embed(difference, quality=80)),
                ("tokens, one colour each", page.embed(drawn)),
            ],
            photograph.tokens.size,
        )
    body += page.table(HEADER, [photograph.row for photograph in photographs])
    text = (
        f"AToken cuts a picture into patches of 16×16 pixels and turns each into one token: a place, and "
        f"{numbers.shape[1]} numbers for the patch's {FRAME_FEATURES}. From the tokens alone it paints the picture "
        "again; point at a patch to see all that is kept of it."
    )
    return page.Section("A photograph becomes tokens, and a photograph again", text, body)


def _whole_patches(picture: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """``picture`` continued to whole patches by its last row and column, as the tokenizer sees it."""
    height, width = grid[0] * PATCH[1], grid[1] * PATCH[2]
    return np.pad(picture, ((0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0)), mode="edge")


def column(photograph: Photograph, *codes: np.ndarray) -> Column:
    """A photograph, its tokens as patches, and what came back, also from ``codes`` where there are some."""
    tokens = photograph.tokens
    return Column(
        photograph.original, tokens, lambda paint: patches(tokens, paint), (photograph.reconstruction, *codes)
    )
