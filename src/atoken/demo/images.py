"""The photographs of the demo: there and back, with what it cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from PIL import Image

from ..config import FRAME_FEATURES, PATCH
from ..evaluation.psnr import psnr
from ..media.image import read_image, write_image
from ..model.tokenizer import AToken
from ..tokens import Tokens
from . import page

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
    mosaics = mosaic([photograph.tokens for photograph in photographs])
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
    for photograph, colours in zip(photographs, mosaics, strict=True):
        body += f"<h3>{PHOTOGRAPHS[photograph.name]}</h3>"
        change = photograph.reconstruction.astype(np.int16) - photograph.original
        difference = np.clip(128 + GAIN * change, 0, 255).astype(np.uint8)
        body += page.views(
            [
                ("original", page.embed(photograph.original)),
                ("reconstruction", page.embed(photograph.reconstruction)),
                (f"difference, {GAIN} times as strong (grey: none)", page.embed(difference, quality=80)),
                ("tokens, one colour each", page.embed(colours)),
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


def mosaic(items: Sequence[Tokens]) -> list[np.ndarray]:
    """Tokens of pictures drawn as coloured patches, uint8 HWC in each picture's size.

    Red, green and blue are the first three principal components of all latents together, so that a colour means the
    same in every picture.
    """
    latents = [item.latents.double().numpy() for item in items]
    joined = np.concatenate(latents)
    centre = joined.mean(0)
    axes = np.linalg.svd(joined - centre, full_matrices=False)[2][:3]
    spread = 2.5 * ((joined - centre) @ axes.T).std(0) + 1e-12
    pictures = []
    for item, rows in zip(items, latents, strict=True):
        colours = np.clip(127.5 * ((rows - centre) @ axes.T / spread + 1), 0, 255).astype(np.uint8)
        patches = colours.reshape(*item.grid[1:3], 3).repeat(PATCH[1], 0).repeat(PATCH[2], 1)
        top, left, height, width = item.box
        pictures.append(patches[top : top + height, left : left + width])
    return pictures


def write_overview(photographs: Sequence[Photograph], path: Path) -> None:
    """One picture of all: a row of originals, of tokens and of reconstructions. Raises ``OSError``."""
    columns = []
    for photograph, colours in zip(photographs, mosaic([p.tokens for p in photographs]), strict=True):
        height, width = photograph.tokens.size
        target = (round(240 * width / height), 240)
        ways = (
            (photograph.original, Image.Resampling.LANCZOS),
            (colours, Image.Resampling.NEAREST),
            (photograph.reconstruction, Image.Resampling.LANCZOS),
        )
        cells = [np.asarray(Image.fromarray(picture).resize(target, way)) for picture, way in ways]
        columns.append(_joined(cells, axis=0))
    write_image(path, _joined(columns, axis=1), quality=88)


def _joined(pictures: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Pictures one after the other with a white gap of 6 pixels."""
    gap = [(0, 0)] * 3
    gap[axis] = (0, 6)
    padded = [np.pad(p, gap, constant_values=255) for p in pictures[:-1]]
    return np.concatenate([*padded, pictures[-1]], axis)


def _whole_patches(picture: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """``picture`` continued to whole patches by its last row and column, as the tokenizer sees it."""
    height, width = grid[0] * PATCH[1], grid[1] * PATCH[2]
    return np.pad(picture, ((0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0)), mode="edge")
