"""Collections that the recipes pack: pixels one after another in ``NAME.bin``, and in ``NAME.json`` where each lies."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ReadError, reading
from ..core.regular import check_regular, read_regular

REMEDY = "make it again"


def read_collection(
    folder: Path, name: str, shape: tuple[str | int, ...], needs: tuple[str, ...], missing: str
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The mapped bytes uint8 [N] of ``NAME.bin``, and the entries of ``NAME.json``.

    Each entry has an ``offset``, the keys of ``shape`` (positive integers) and of ``needs``, and lies within the bytes;
    numbers in ``shape`` are sides that all have. Raises ``FileNotFoundError`` with ``missing`` where there is none, and
    ``ReadError`` for another file.
    """
    index, data = folder / f"{name}.json", folder / f"{name}.bin"
    if not index.is_file():
        raise FileNotFoundError(missing)
    with reading(index, REMEDY):
        entries = json.loads(read_regular(index))
    with reading(data, REMEDY):
        check_regular(data)
        pixels = np.memmap(data, np.uint8, "r")
    if not isinstance(entries, list) or not entries:
        raise ReadError(f"{index} is {'empty' if entries == [] else 'no list'}: {REMEDY}")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not set(needs) <= set(entry):
            raise ReadError(f"{index}: entry {number} has no {', '.join(needs)}: {REMEDY}")
        sides: list[Any] = [entry.get(side) if isinstance(side, str) else side for side in shape]
        start = entry.get("offset")
        if type(start) is not int or any(type(side) is not int or side < 1 for side in sides):
            raise ReadError(f"{index}: entry {number} has no offset and size in whole numbers: {REMEDY}")
        if not 0 <= start <= len(pixels) - math.prod(sides):
            raise ReadError(f"{index}: entry {number} lies outside of {data.name}: {REMEDY}")
    return pixels, entries
