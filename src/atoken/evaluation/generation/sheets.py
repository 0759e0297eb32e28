"""Sheets of pictures: drawn ones beside real ones, beside their nearest training pictures, and below their prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...generation.sheet import sheet
from .measures import Nearest
from .pictures import PictureSet

SHOWN = 24
"""Pairs on a sheet."""
LINE = 18
"""Pixels of a line of text."""


def spread_over(count: int, shown: int = SHOWN) -> list[int]:
    """Numbers from all over ``count``."""
    return [turn * count // min(shown, count) for turn in range(min(shown, count))]


def pairs(drawn: PictureSet, others: PictureSet, index: Sequence[int], numbers: Sequence[int]) -> np.ndarray:
    """Each of the drawn pictures ``numbers`` left of the one of ``others`` that ``index`` names."""
    return sheet([beside(one(drawn, number), one(others, int(index[number]))) for number in sorted(numbers)])


def closest(near: Nearest) -> list[int]:
    """The drawn pictures that are nearest to a training picture."""
    numbers: list[int] = near.distance.argsort()[:SHOWN].tolist()
    return numbers


def one(pictures: PictureSet, number: int) -> np.ndarray:
    """Picture ``number`` of a set."""
    return np.asarray(pictures.read(number, number + 1)[0])


def beside(*pictures: np.ndarray) -> np.ndarray:
    """Pictures in a row, those of other heights continued by white."""
    height = max(picture.shape[0] for picture in pictures)
    padded = [np.pad(p, ((0, height - p.shape[0]), (0, 0), (0, 0)), constant_values=255) for p in pictures]
    return np.concatenate(padded, 1)


def captioned(prompts: Sequence[str], rows: Sequence[Sequence[np.ndarray]], columns: int | None = None) -> np.ndarray:
    """For each prompt its pictures in a row below its words, prompts row by row."""
    font = ImageFont.load_default(LINE - 5)
    cells = []
    for prompt, pictures in zip(prompts, rows, strict=True):
        row = beside(*pictures)
        head = Image.new("RGB", (row.shape[1], LINE), "white")
        ImageDraw.Draw(head).text((2, 0), prompt, "black", font)
        cells.append(np.concatenate([np.asarray(head), row]))
    return sheet(cells, columns)
