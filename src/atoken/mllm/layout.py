"""Which placeholders a source has in the prompt, and what stands at each: one function for processor and model.

A placeholder is the mean of some tokens of the source, or one of the learnt vectors ``VECTORS``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from ..media.views.voxels import RESOLUTION
from ..tokens.patch import PATCH

VECTORS = ("begin", "row", "frame", "separator", "end")
BEGIN, ROW, FRAME, SEPARATOR, END = range(len(VECTORS))
POOLED = -1
"""In ``Layout.vectors``: a mean of tokens, not a vector."""
FACTORS = (1, 2, 4)
"""Sides of the squares of tokens of a picture that are pooled to one, tried in this order."""
SLOW, FAST = 2, 4
"""The same for frames of the slow and the fast pathway."""
MODALITIES = ("image", "video", "3d")


@dataclass(frozen=True)
class LayoutConfig:
    """Budgets and pathways. The defaults are the paper's input budgets (section 5.1): 2.36 M pixels a picture, about
    9,200 tokens a clip of 32 slow and 128 fast frames.

    Raises ``ValueError`` for numbers that cannot be.
    """

    max_pixels: int = 1536 * 1536
    """Larger pictures are scaled down to this many pixels or fewer."""
    image_tokens: int = 9216
    """Pictures of more tokens are pooled 2 x 2, and where that is still more, 4 x 4."""
    slow_steps: int = 32
    """Steps in time of the slow pathway, pooled 2 x 2; 0: no slow pathway."""
    fast_steps: int = 128
    """Steps in time of the fast pathway, pooled 4 x 4; 0: no fast pathway."""
    video_tokens: int = 9216
    """Most pooled tokens of a clip, vectors not counted: larger frames are scaled down until they fit."""
    voxel_tokens: int = 4096
    """3D of more voxels is pooled on a grid that is coarser by 2, 4, 8, ..."""
    resolution: int = RESOLUTION
    """Voxels along an edge of the unit cube."""
    frames_per_token: int = 1
    """1: each frame is a step in time of its own. 4: four frames are one, as in the tokens of ``AToken.encode``."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if type(value) is not int or value < (0 if name in ("slow_steps", "fast_steps") else 1):
                raise ValueError(f"layout: {name} is {value!r}: give a positive integer")
        if not self.slow_steps and not self.fast_steps:
            raise ValueError("layout: slow_steps and fast_steps are both 0: a clip needs one pathway")
        if self.frames_per_token not in (1, PATCH[0]):
            raise ValueError(f"layout: frames_per_token is {self.frames_per_token}: give 1 or {PATCH[0]}")

    @property
    def steps(self) -> int:
        """Steps in time of a clip that are looked at."""
        return max(self.slow_steps, self.fast_steps)


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the tokens of one source are. Raises ``ValueError`` where the parts do not fit each other."""

    modality: str
    """"image", "video" or "3d"."""
    grid: tuple[int, int, int, int]
    """Tokens along t, x (rows), y (columns), z."""
    coords: Tensor
    """int [N, 4] = (t, x, y, z); pictures and clips fill their grid in row-major order."""

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            raise ValueError(f"modality is {self.modality!r}: give one of {', '.join(MODALITIES)}")
        steps, rows, columns, _ = self.grid
        if self.coords.ndim != 2 or self.coords.shape[1] != 4 or not len(self.coords):
            raise ValueError(f"coords of tokens are [N, 4], not {list(self.coords.shape)}")
        if self.modality != "3d" and len(self.coords) != steps * rows * columns:
            raise ValueError(f"{len(self.coords)} tokens do not fill the grid {self.grid} of a {self.modality}")

    def __len__(self) -> int:
        return len(self.coords)


@dataclass(frozen=True, eq=False)
class Layout:
    """What stands at the P placeholders of one source, in their order."""

    vectors: Tensor
    """int64 [P]: index into ``VECTORS``, or ``POOLED``."""
    members: Tensor
    """int64 [M]: a token of the source; one may be part of several placeholders, or of none."""
    places: Tensor
    """int64 [M]: the placeholder that it is part of."""

    def __len__(self) -> int:
        return len(self.vectors)

    def pool(self, values: Tensor) -> Tensor:
        """Values [N, C] of all tokens -> their means [P, C] in the dtype of ``values``; 0 where a vector stands."""
        places, members = self.places.to(values.device), self.members.to(values.device)
        total = values.new_zeros(len(self), values.shape[1], dtype=torch.float32)
        total = total.index_add(0, places, values[members].float())
        count = torch.bincount(places, minlength=len(self)).clamp(min=1)
        return (total / count[:, None]).to(values.dtype)


def lay_out(geometry: Geometry, config: LayoutConfig) -> Layout:
    """The layout of one source.

    - A picture: begin, then its rows, each ended by a row vector, then end. Above ``image_tokens`` squares of 2 x 2,
      then of 4 x 4 tokens are one; squares at the right and bottom edge may be of fewer.
    - A clip: begin, the slow frames (2 x 2), a separator, the fast frames (4 x 4), end; each frame is ended by a frame
      vector. The steps are in the middles of equal parts of the clip. A pathway of no steps is left out, and the
      separator with it.
    - 3D: begin, the voxels in the order of x, y, z, or of a coarser grid the means of those in each cell, end.

    Raises ``ValueError`` that says how many tokens there are where they do not fit into the budget.
    """
    if geometry.modality == "3d":
        return _voxels(geometry, config)
    parts = _picture(geometry, config) if geometry.modality == "image" else _clip(geometry, config)
    vectors, members, places, start = [], [], [], 0
    for stands, tokens, there in parts:
        vectors.append(stands)
        members.append(tokens)
        places.append(there + start)
        start += len(stands)
    return Layout(torch.cat(vectors), torch.cat(members), torch.cat(places))


_Part = tuple[Tensor, Tensor, Tensor]
"""Vectors of some neighbouring placeholders, tokens, and which of these placeholders each is part of."""


def _vector(number: int) -> _Part:
    nothing = torch.zeros(0, dtype=torch.int64)
    return torch.tensor([number]), nothing, nothing


def _frame(rows: int, columns: int, factor: int, first: int, row_vectors: bool) -> _Part:
    """A frame of ``rows`` x ``columns`` tokens, the first of them of number ``first``."""
    high, wide = pooled_sides(rows, columns, factor)
    stride = wide + row_vectors
    vectors = torch.full((high, stride), POOLED)
    vectors[:, wide:] = ROW
    row, column = torch.arange(rows) // factor, torch.arange(columns) // factor
    places = row[:, None] * stride + column
    return vectors.flatten(), torch.arange(first, first + rows * columns), places.flatten()


def _picture(geometry: Geometry, config: LayoutConfig) -> list[_Part]:
    _, rows, columns, _ = geometry.grid
    counts = {factor: high * wide for factor in FACTORS for high, wide in [pooled_sides(rows, columns, factor)]}
    factor = next((factor for factor in FACTORS if counts[factor] <= config.image_tokens), None)
    if factor is None:
        raise ValueError(
            f"a picture of {rows} x {columns} tokens is {counts[FACTORS[-1]]} where 4 x 4 are one, and image_tokens is "
            f"{config.image_tokens}: raise it, or make the picture smaller"
        )
    return [_vector(BEGIN), _frame(rows, columns, factor, 0, True), _vector(END)]


def _clip(geometry: Geometry, config: LayoutConfig) -> list[_Part]:
    steps, rows, columns, _ = geometry.grid
    if (count := clip_tokens(steps, rows, columns, config)) > config.video_tokens:
        raise ValueError(
            f"a clip of {steps} steps of {rows} x {columns} tokens is {count} pooled tokens, and video_tokens is "
            f"{config.video_tokens}: raise it, or make the frames smaller or fewer"
        )

    def pathway(wanted: int, factor: int) -> list[_Part]:
        frames = (_frame(rows, columns, factor, step * rows * columns, False) for step in chosen_steps(steps, wanted))
        return list(chain.from_iterable((frame, _vector(FRAME)) for frame in frames))

    slow, fast = pathway(config.slow_steps, SLOW), pathway(config.fast_steps, FAST)
    between = [_vector(SEPARATOR)] if slow and fast else []
    return [_vector(BEGIN), *slow, *between, *fast, _vector(END)]


def _voxels(geometry: Geometry, config: LayoutConfig) -> Layout:
    cells = geometry.coords[:, 1:].long()
    side = max(*geometry.grid[1:], int(cells.max()) + 1)
    factor = 1
    while True:
        coarse = cells // factor
        key = (coarse[:, 0] * side + coarse[:, 1]) * side + coarse[:, 2]
        found, places = torch.unique(key, return_inverse=True)
        if len(found) <= config.voxel_tokens:
            break
        factor *= 2
    vectors = torch.tensor([BEGIN, *[POOLED] * len(found), END])
    return Layout(vectors, torch.arange(len(cells)), places + 1)


def pooled_sides(rows: int, columns: int, factor: int) -> tuple[int, int]:
    """Rows and columns after squares of ``factor`` tokens a side became one."""
    return -(-rows // factor), -(-columns // factor)


def chosen_steps(steps: int, wanted: int) -> list[int]:
    """The steps in the middles of ``wanted`` equal parts of ``steps``; all of them where they are fewer."""
    if steps <= wanted:
        return list(range(steps))
    return [(2 * index + 1) * steps // (2 * wanted) for index in range(wanted)]


def clip_tokens(steps: int, rows: int, columns: int, config: LayoutConfig) -> int:
    """Pooled tokens of a clip, vectors not counted."""
    sizes = {factor: high * wide for factor in (SLOW, FAST) for high, wide in [pooled_sides(rows, columns, factor)]}
    return min(steps, config.slow_steps) * sizes[SLOW] + min(steps, config.fast_steps) * sizes[FAST]


def picture_size(height: int, width: int, config: LayoutConfig) -> tuple[int, int]:
    """Height and width in pixels that a picture is looked at in: its own, or whole patches within ``max_pixels``."""
    if height * width <= config.max_pixels:
        return height, width
    scale = (config.max_pixels / (height * width)) ** 0.5
    most = max(config.max_pixels // (PATCH[1] * PATCH[2]), 1)
    rows, columns = (min(max(int(side * scale) // PATCH[1], 1), most) for side in (height, width))
    return rows * PATCH[1], columns * PATCH[2]


def frame_size(height: int, width: int, steps: int, config: LayoutConfig) -> tuple[int, int]:
    """Height and width in pixels that frames are looked at in: their own, or as many whole patches as fit.

    Raises ``ValueError`` where not even single patches fit into ``video_tokens``.
    """
    rows, columns = -(-height // PATCH[1]), -(-width // PATCH[2])
    if clip_tokens(steps, rows, columns, config) <= config.video_tokens:
        return height, width
    for smaller in range(max(rows, columns) - 1, 0, -1):
        scale = smaller / max(rows, columns)
        high, wide = max(round(rows * scale), 1), max(round(columns * scale), 1)
        if clip_tokens(steps, high, wide, config) <= config.video_tokens:
            return high * PATCH[1], wide * PATCH[2]
    raise ValueError(
        f"a clip of {steps} steps is {clip_tokens(steps, 1, 1, config)} tokens even with one a frame, and video_tokens "
        f"is {config.video_tokens}: raise it, or take fewer steps"
    )
