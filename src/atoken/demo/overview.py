"""One picture of everything: originals above their tokens and what comes back of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..media.image.files import write_image
from ..tokens.patch import PATCH
from ..tokens.tokens import Tokens

HEIGHT, GAP = 200, 6
"""Of a cell, and between cells, in pixels."""


@dataclass(frozen=True)
class Column:
    """A thing on the overview; pictures are uint8 HWC of one size."""

    original: np.ndarray
    tokens: Tokens
    draw: Callable[[np.ndarray], np.ndarray]
    """A picture of the tokens, given a colour for each, uint8 [N, 3]."""
    returned: tuple[np.ndarray, ...]
    """What came back, from continuous tokens and then from codes."""


def write_overview(columns: Sequence[Column], path: Path) -> None:
    """A row of originals, of tokens, and of each way back, white where a column lacks one. Raises ``OSError``."""
    most = max(len(column.returned) for column in columns)
    drawn = colours([column.tokens for column in columns])
    strips = []
    for column, paint in zip(columns, drawn, strict=True):
        height, width = column.original.shape[:2]
        size = (round(HEIGHT * width / height), HEIGHT)
        smooth, sharp = Image.Resampling.LANCZOS, Image.Resampling.NEAREST
        ways = [(column.original, smooth), (column.draw(paint), sharp), *((back, smooth) for back in column.returned)]
        ways += [(np.full_like(column.original, 255), smooth)] * (most - len(column.returned))
        strips.append(_joined([np.asarray(Image.fromarray(picture).resize(size, way)) for picture, way in ways], 0))
    write_image(path, _joined(strips, 1), quality=88)


def colours(items: Sequence[Tokens]) -> list[np.ndarray]:
    """A colour for every token, uint8 [N, 3]: the first three principal components of all latents together.

    A colour means the same in every item.
    """
    latents = [item.latents.double().numpy() for item in items]
    joined = np.concatenate(latents)
    centre = joined.mean(0)
    axes = np.linalg.svd(joined - centre, full_matrices=False)[2][:3]
    spread = 2.5 * ((joined - centre) @ axes.T).std(0) + 1e-12
    return [np.clip(127.5 * ((rows - centre) @ axes.T / spread + 1), 0, 255).astype(np.uint8) for rows in latents]


def patches(tokens: Tokens, paint: np.ndarray, step: int = 0) -> np.ndarray:
    """The tokens of a picture, or those at one latent time ``step``, as patches in their colours, uint8 HWC."""
    rows, columns = tokens.grid[1:3]
    plane = paint.reshape(-1, rows, columns, 3)[step].repeat(PATCH[1], 0).repeat(PATCH[2], 1)
    top, left, height, width = tokens.box
    return plane[top : top + height, left : left + width]


def _joined(pictures: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Pictures one after the other with a white gap."""
    gap = [(0, 0)] * 3
    gap[axis] = (0, GAP)
    padded = [np.pad(p, gap, constant_values=255) for p in pictures[:-1]]
    return np.concatenate([*padded, pictures[-1]], axis)
