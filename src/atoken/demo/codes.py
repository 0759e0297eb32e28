"""The discrete part of the demo: photographs as a few codes a patch, beside codecs with as many bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..evaluation.codecs import PictureCodec
from ..media.pixels import to_uint8
from ..metrics.psnr import psnr
from ..pipeline.atoken import AToken
from ..tokens.tokens import Tokens
from . import page
from .images import PHOTOGRAPHS, Photograph

CODECS = ("JPEG", "WebP")
HEADER = ("photograph", "bytes of codes", "discrete dB", *(f"{codec} dB" for codec in CODECS), "continuous dB")
DOT = 5
"""Pixels of a token on a code map."""


@dataclass(frozen=True)
class Coded:
    """A photograph that went through continuous tokens, through discrete ones."""

    photograph: Photograph
    tokens: Tokens
    back: np.ndarray


def reconstruct(model: AToken, photographs: Sequence[Photograph]) -> list[Coded]:
    """Each of ``photographs`` through the discrete tokens of ``model``."""
    tokens = [model.encode(photograph.original, kind="discrete") for photograph in photographs]
    return [
        Coded(photograph, codes, model.decode(codes)) for photograph, codes in zip(photographs, tokens, strict=True)
    ]


def section(model: AToken, done: Sequence[Coded]) -> page.Section:
    """The codes of the photographs, and what comes back of them, beside codecs."""
    books = model.fsq.codebook_sizes
    body, rows = "", []
    for coded in done:
        photograph, tokens, back = coded.photograph, coded.tokens, coded.back
        original = photograph.original
        size = round(len(tokens) * sum(map(math.log2, books)) / 8)
        rivals = [at_bytes(codec, original, size) for codec in CODECS]
        figures = [("from the codes", back), *zip(CODECS, rivals, strict=True)]
        body += f"<h3>{PHOTOGRAPHS[photograph.name]}</h3>" + page.views(
            [
                *((f"{name}, {psnr(picture, original):.1f} dB", page.embed(picture)) for name, picture in figures),
                (f"the {len(books)} codes of every patch, a map for each", page.embed(maps(tokens))),
            ],
            tokens.size,
        )
        scores = [back, *rivals, photograph.reconstruction]
        rows.append((photograph.name, f"{size:,}", *(f"{psnr(picture, original):.2f}" for picture in scores)))
    body += page.table(HEADER, rows)
    text = (
        f"Discrete tokens are {len(books)} whole numbers a patch, each below {max(books):,}: what language models read "
        f"and write. A patch takes {sum(map(math.log2, books)) / 8:.0f} bytes of them; JPEG and WebP are shown at the "
        "best quality that stays within the same bytes."
    )
    return page.Section("The same photographs as codes", text, body)


def at_bytes(codec: str, picture: np.ndarray, size: int) -> np.ndarray:
    """A picture, uint8 HWC, after ``codec`` at the best quality that takes at most ``size`` bytes."""
    return PictureCodec(codec, lambda _: size).reconstruct([picture[None]])[0].frames[0]


def maps(tokens: Tokens) -> np.ndarray:
    """The codes of a picture's tokens as uint8 RGB: a square of maps, one for each code, a dot for each token.

    Red, green and blue are the first three of the quantized numbers behind a code, black at their lowest level.
    """
    rows, columns = tokens.grid[1:3]
    numbers = tokens.latents.float().numpy()  # [N, C] in -1 ... 1
    side = math.ceil(math.sqrt(len(tokens.fsq)))
    canvas = np.full((side, side, rows, columns, 3), 128, np.uint8)
    ends = np.cumsum([len(group) for group in tokens.fsq])
    for number, group in enumerate(np.split(numbers, ends[:-1], 1)):
        shown = group[:, :3]
        colours = np.pad(shown, ((0, 0), (0, 3 - shown.shape[1])), constant_values=0.0)
        drawn = to_uint8(torch.from_numpy(colours)).numpy()
        canvas[divmod(number, side)] = drawn.reshape(rows, columns, 3)
    return canvas.swapaxes(1, 2).reshape(side * rows, side * columns, 3).repeat(DOT, 0).repeat(DOT, 1)
