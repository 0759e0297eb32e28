"""Whether the facts and numbers of tokens fit together: asked whenever ``TokenHeader`` or ``Tokens`` are made."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.text import shortened
from ..nn.fsq import check_indices
from .patch import KINDS, PATCH

if TYPE_CHECKING:
    from .header import TokenHeader

MODALITIES = ("image", "video", "3d")
LONGEST_SIDE = 1024
"""Most voxels along an axis of a 3D grid."""
MOST_PIXELS = 2**31 - 1
"""Most pixels along a side."""
LARGEST = 1e300
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
DTYPES = tuple(str(dtype).removeprefix("torch.") for dtype in FLOATS)


@dataclass(frozen=True)
class OptionalFact:
    """A fact of the header that is written only where it is set, so that files without it load."""

    version: int
    """Version of the format that files with it have: a new one where a reader must know it to decode right."""
    is_text: bool
    """Whether it stands in the file as it is; other facts are JSON."""
    holds: Callable[[Any], bool]
    wanted: str


OPTIONAL = {
    "spatial_tile": OptionalFact(
        2,
        False,
        lambda value: type(value) is int and 0 < value <= MOST_PIXELS and value % PATCH[1] == 0,
        f"a multiple of {PATCH[1]} pixels",
    ),
    "light": OptionalFact(1, True, lambda value: isinstance(value, str) and 0 < len(value) <= 64, "a short text"),
    "compute_dtype": OptionalFact(1, True, lambda value: value in DTYPES, f"one of {', '.join(DTYPES)}"),
}
"""All such facts, by the name of the field and of the key in the file."""


def check_fps(fps: float) -> None:
    """Raise ``ValueError`` for a number of frames a second that cannot be."""
    if not (isinstance(fps, Real) and 0 < fps < float("inf")):
        raise ValueError(f"fps is {shortened(fps)}: give a positive number of frames a second")


def check_header(facts: TokenHeader) -> None:
    """Raise ``ValueError`` with one sentence where a fact is malformed or contradicts another."""
    _need(facts.kind in KINDS, lambda: f"kind {_show(facts.kind)!r} is none of {', '.join(KINDS)}")
    _need(
        facts.modality in MODALITIES, lambda: f"modality {_show(facts.modality)!r} is none of {', '.join(MODALITIES)}"
    )
    for name in ("model", "weights"):
        if not isinstance(getattr(facts, name), str):
            _need(False, f"{name} {_show(getattr(facts, name))} is no text")
    _check_grid(facts)
    _check_box(facts)
    if facts.kind == "discrete":
        fits = isinstance(facts.fsq, tuple) and len(facts.fsq) > 0 and all(map(_is_group, facts.fsq))
        _need(fits, lambda: f"fsq {_show(facts.fsq)} is not a tuple of levels, each at least 2, for each code")
    _need(
        _are_numbers(facts.value_range, 2) and facts.value_range[0] < facts.value_range[1],
        lambda: f"value_range {_show(facts.value_range)} is not two ascending numbers",
    )
    _check_times(facts)
    if facts.transform is not None:
        rows = facts.transform if isinstance(facts.transform, tuple) and facts.modality == "3d" else ()
        _need(
            len(rows) == 4 and all(_are_numbers(row, 4) for row in rows), "transform is not 4 x 4 numbers of a 3D asset"
        )
    for name, fact in OPTIONAL.items():
        value = getattr(facts, name)
        if value is not None and not fact.holds(value):
            _need(False, f"{name} {_show(value)} is not {fact.wanted}")


def check_count(facts: TokenHeader, count: int) -> None:
    """Raise ``ValueError`` unless the grid can hold ``count`` tokens: pictures and videos fill it."""
    _need(count >= 1, "there are no tokens")
    fills = facts.modality == "3d" or math.prod(facts.grid) == count
    _need(fills, lambda: f"{count} tokens do not fill the grid {_show(facts.grid)}")


def check_values(values: Tensor, kind: str, fsq: tuple[tuple[int, ...], ...]) -> None:
    """Raise ``ValueError`` unless ``values`` are latents or codes as ``kind`` says, and can be decoded."""
    _need(isinstance(values, Tensor), lambda: f"values are {type(values).__name__}, not a tensor")
    shape, dtype = list(values.shape), str(values.dtype).removeprefix("torch.")
    if kind == "discrete":
        _need(
            values.ndim == 2 and values.shape[1] == len(fsq) and values.dtype == torch.uint16,
            lambda: f"codes of {dtype} {shape} are not uint16 with {len(fsq)} codes a token",
        )
        try:
            check_indices(values.cpu().int(), [math.prod(group) for group in fsq])
        except ValueError as error:
            raise ValueError(f"the tokens contradict themselves: {error}") from None
    else:
        _need(values.ndim == 2 and values.dtype in FLOATS, lambda: f"latents of {dtype} {shape} are not floats [N, C]")
        _need(bool(torch.isfinite(values).all()), "there are NaN or infinite latents")


def check_coords(facts: TokenHeader, coords: Tensor, count: int) -> None:
    """Raise ``ValueError`` unless ``coords`` are int32 [``count``, 4] on the grid, each once and in its order."""
    from ..nn.packed import dense_coords

    grid = facts.grid
    fits = isinstance(coords, Tensor) and coords.dtype == torch.int32 and list(coords.shape) == [count, 4]
    found = f"{coords.dtype} {list(coords.shape)}" if isinstance(coords, Tensor) else type(coords).__name__
    _need(fits, lambda: f"coords of {found} are not int32 [{count}, 4]")
    if facts.modality != "3d":
        _need(
            torch.equal(coords, dense_coords(grid)),
            lambda: f"the coords are not those of the grid {grid} in row-major order",
        )
        return
    inside = bool((coords >= 0).all()) and bool((coords < torch.tensor(grid)).all())
    _need(inside, lambda: f"there are coords outside the grid {grid}")
    _, x, y, z = coords.long().unbind(1)
    places = (x * grid[2] + y) * grid[3] + z
    _need(len(torch.unique(places)) == len(places), "two tokens have the same coords")


def _check_grid(facts: TokenHeader) -> None:
    grid = facts.grid
    _need(_are_integers(grid, 4) and min(grid) >= 1, lambda: f"grid {_show(grid)} is not four positive integers")
    if facts.modality == "3d":
        fits = grid[0] == 1 and max(grid) <= LONGEST_SIDE
        _need(fits, lambda: f"grid {_show(grid)} is not one step in time of at most {LONGEST_SIDE} voxels a side")
        return
    fits = grid[3] == 1 and (grid[0] == 1 or facts.modality == "video")
    _need(fits, lambda: f"grid {_show(grid)} is not that of a {facts.modality}")


def _check_box(facts: TokenHeader) -> None:
    box = facts.box
    _need(
        _are_integers(box, 4) and min(box[:2]) >= 0 and min(box[2:]) >= 1 and max(box) <= MOST_PIXELS,
        lambda: f"box {_show(box)} is not the top, left, height and width of pixels",
    )
    top, left, height, width = box
    rows, columns = facts.grid[1] * PATCH[1], facts.grid[2] * PATCH[2]
    if facts.modality != "3d":
        fits = top + height <= rows and left + width <= columns
        _need(fits, lambda: f"box {box} does not lie on the canvas of {_show(rows)} rows and {_show(columns)} columns")
    _need(
        _are_integers(facts.size, 2) and facts.size == (height, width),
        lambda: f"size {_show(facts.size)} is not that of box {box}",
    )


def _check_times(facts: TokenHeader) -> None:
    times, first = facts.times, facts.first_frame
    if facts.modality != "video":
        _need(
            times is None and type(first) is int and first == 0,
            lambda: f"a video has times and a first frame, and this is modality {facts.modality!r}",
        )
        return
    if times is None:
        raise ValueError("the tokens contradict themselves: a video needs the times of its frames")
    _need(isinstance(times, Tensor), lambda: f"times are {type(times).__name__}, not a tensor")
    _need(times.dtype == torch.float64 and times.ndim == 1 and len(times) > 0, "times are not float64, one a frame")
    ascend = bool(torch.isfinite(times).all()) and bool((times[1:] > times[:-1]).all())
    _need(ascend, "the times of the frames do not ascend")
    _need(
        _are_integers((first,), 1) and 0 <= first <= facts.grid[0] * PATCH[0] - len(times),
        lambda: (
            f"{len(times)} frames from frame {_show(first)} on do not lie in {_show(facts.grid[0])} steps of {PATCH[0]}"
        ),
    )


def _need(holds: bool, sentence: str | Callable[[], str]) -> None:
    """``sentence`` is made only where it is raised: making those of a header took longer than reading a sample."""
    if not holds:
        raise ValueError(f"the tokens contradict themselves: {sentence if isinstance(sentence, str) else sentence()}")


def _are_integers(values: Any, count: int) -> bool:
    return isinstance(values, tuple) and len(values) == count and all(type(value) is int for value in values)


def _are_numbers(values: Any, count: int) -> bool:
    numbers = isinstance(values, tuple) and len(values) == count and all(type(v) in (int, float) for v in values)
    return numbers and all(abs(value) <= LARGEST for value in values)


def _is_group(levels: Any) -> bool:
    """Whether ``levels`` are those of the numbers behind one code of 16 bits."""
    integers = isinstance(levels, tuple) and len(levels) > 0 and _are_integers(levels, len(levels))
    return integers and min(levels) >= 2 and math.prod(levels) <= 65536


def _show(value: object) -> str:
    return shortened(value)
