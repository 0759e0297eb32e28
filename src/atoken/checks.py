"""Whether tokens fit together: asked of every token file that is read, and of all tokens before they are decoded."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .config import KINDS, PATCH

if TYPE_CHECKING:
    from .token_file import TokenFile
    from .tokens import Tokens

MODALITIES = ("image", "video", "3d")
LONGEST_SIDE = 1024
"""Most voxels along an axis of a 3D grid."""
LARGEST = 1e300
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_tokens(tokens: Tokens) -> None:
    """Raise ``ValueError`` with one sentence where any two fields of ``tokens`` contradict each other."""
    check_facts(tokens, len(tokens.values))
    check_values(tokens.values, tokens.kind, tokens.fsq)
    _check_coords(tokens)


def check_facts(facts: Tokens | TokenFile, count: int) -> None:
    """The same for all but the values and coordinates of ``count`` tokens."""
    _need(facts.kind in KINDS, f"kind {facts.kind!r} is none of {', '.join(KINDS)}")
    _need(facts.modality in MODALITIES, f"modality {facts.modality!r} is none of {', '.join(MODALITIES)}")
    _check_grid(facts, count)
    _check_box(facts)
    if facts.kind == "discrete":
        fits = isinstance(facts.fsq, tuple) and len(facts.fsq) > 0 and all(map(_is_group, facts.fsq))
        _need(fits, f"fsq {facts.fsq} is not a tuple of levels, each at least 2, for each code")
    _need(
        _are_numbers(facts.value_range, 2) and facts.value_range[0] < facts.value_range[1],
        f"value_range {facts.value_range} is not two ascending numbers",
    )
    _check_times(facts)
    if facts.transform is not None:
        rows = facts.transform if isinstance(facts.transform, tuple) and facts.modality == "3d" else ()
        _need(
            len(rows) == 4 and all(_are_numbers(row, 4) for row in rows), "transform is not 4 x 4 numbers of a 3D asset"
        )


def check_values(values: Tensor, kind: str, fsq: tuple[tuple[int, ...], ...]) -> None:
    """Raise ``ValueError`` unless ``values`` are latents or codes as ``kind`` says, and can be decoded."""
    shape, dtype = list(values.shape), str(values.dtype).removeprefix("torch.")
    if kind == "discrete":
        _need(
            values.ndim == 2 and values.shape[1] == len(fsq) and values.dtype == torch.uint16,
            f"codes of {dtype} {shape} are not uint16 with {len(fsq)} codes a token",
        )
        sizes = torch.tensor([math.prod(group) for group in fsq])
        _need(not bool((values.cpu().int() >= sizes).any()), f"a code lies above {int(sizes.max()) - 1}")
    else:
        _need(values.ndim == 2 and values.dtype in FLOATS, f"latents of {dtype} {shape} are not floats [N, C]")
        _need(bool(torch.isfinite(values).all()), "there are NaN or infinite latents")


def _check_grid(facts: Tokens | TokenFile, count: int) -> None:
    grid = facts.grid
    _need(_are_integers(grid, 4) and min(grid) >= 1, f"grid {grid} is not four positive integers")
    _need(count >= 1, "there are no tokens")
    if facts.modality == "3d":
        fits = grid[0] == 1 and max(grid) <= LONGEST_SIDE
        _need(fits, f"grid {grid} is not one step in time of at most {LONGEST_SIDE} voxels a side")
        return
    _need(
        grid[3] == 1 and (grid[0] == 1 or facts.modality == "video"), f"grid {grid} is not that of a {facts.modality}"
    )
    _need(math.prod(grid) == count, f"{count} tokens do not fill the grid {grid}")


def _check_box(facts: Tokens | TokenFile) -> None:
    _need(
        _are_integers(facts.box, 4) and min(facts.box[:2]) >= 0 and min(facts.box[2:]) >= 1,
        f"box {facts.box} is not the top, left, height and width of pixels",
    )
    top, left, height, width = facts.box
    rows, columns = facts.grid[1] * PATCH[1], facts.grid[2] * PATCH[2]
    if facts.modality != "3d":
        fits = top + height <= rows and left + width <= columns
        _need(fits, f"box {facts.box} does not lie on the canvas of {rows} rows and {columns} columns")
    _need(
        _are_integers(facts.size, 2) and facts.size == (height, width),
        f"size {facts.size} is not that of box {facts.box}",
    )


def _check_times(facts: Tokens | TokenFile) -> None:
    times, first = facts.times, facts.first_frame
    if facts.modality != "video":
        _need(
            times is None and first == 0,
            f"a video has times and a first frame, and this is modality {facts.modality!r}",
        )
        return
    if times is None:
        raise ValueError("the tokens contradict themselves: a video needs the times of its frames")
    _need(times.dtype == torch.float64 and times.ndim == 1 and len(times) > 0, "times are not float64, one a frame")
    ascend = bool(torch.isfinite(times).all()) and bool((times[1:] > times[:-1]).all())
    _need(ascend, "the times of the frames do not ascend")
    _need(
        _are_integers((first,), 1) and 0 <= first <= facts.grid[0] * PATCH[0] - len(times),
        f"{len(times)} frames from frame {first} on do not lie in {facts.grid[0]} steps of {PATCH[0]}",
    )


def _check_coords(tokens: Tokens) -> None:
    from .tokens import dense_coords

    coords, grid = tokens.coords, tokens.grid
    fits = coords.dtype == torch.int32 and list(coords.shape) == [len(tokens), 4]
    _need(fits, f"coords of {coords.dtype} {list(coords.shape)} are not int32 [{len(tokens)}, 4]")
    if tokens.modality != "3d":
        _need(
            torch.equal(coords, dense_coords(grid)), f"the coords are not those of the grid {grid} in row-major order"
        )
        return
    inside = bool((coords >= 0).all()) and bool((coords < torch.tensor(grid)).all())
    _need(inside, f"there are coords outside the grid {grid}")
    _, x, y, z = coords.long().unbind(1)
    places = (x * grid[2] + y) * grid[3] + z
    _need(len(torch.unique(places)) == len(places), "two tokens have the same coords")


def _need(holds: bool, sentence: str) -> None:
    if not holds:
        raise ValueError(f"the tokens contradict themselves: {sentence}")


def _are_integers(values: Any, count: int) -> bool:
    return isinstance(values, tuple) and len(values) == count and all(type(value) is int for value in values)


def _are_numbers(values: Any, count: int) -> bool:
    numbers = isinstance(values, tuple) and len(values) == count and all(type(v) in (int, float) for v in values)
    return numbers and all(abs(value) <= LARGEST for value in values)


def _is_group(levels: Any) -> bool:
    """Whether ``levels`` are those of the numbers behind one code of 16 bits."""
    integers = isinstance(levels, tuple) and len(levels) > 0 and _are_integers(levels, len(levels))
    return integers and min(levels) >= 2 and math.prod(levels) <= 65536
