"""Samples: drawn in parts, by one process or several, and then one npz file as the field writes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import reading
from ...core.files import atomic_write
from .pictures import PictureSet, of_archive, write_archive

SAMPLES, PLAN, PARTS = "samples.npz", "plan.json", "parts"
Draw = Callable[[Sequence[int]], Sequence[np.ndarray]]
"""Pictures uint8 [H, W, 3] of one size, of the samples with these numbers."""


def begin(folder: Path, plan: Mapping[str, Any]) -> None:
    """Write down what is drawn, or see that what is there is of the same plan. Raises ``ValueError`` for another."""
    path = folder / PLAN
    if path.is_file():
        with reading(path, "delete its folder"):
            found = json.loads(path.read_text("utf-8"))
        ours = json.loads(json.dumps(plan))
        if found != ours:
            other = next(name for name in {**found, **ours} if found.get(name) != ours.get(name))
            raise ValueError(f"{folder} holds samples with another {other}: give another --out, or --overwrite")
        return
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(plan, indent=1) + "\n", "utf-8")


def draw_parts(
    folder: Path,
    count: int,
    batch: int,
    draw: Draw,
    *,
    share: tuple[int, int] = (0, 1),
    advance: Callable[[int], None] = lambda done: None,
) -> None:
    """Draw a share (number, of how many) of the samples, but the parts that are there."""
    if (folder / SAMPLES).is_file():
        return
    for turn, start in enumerate(range(share[0] * batch, count, share[1] * batch), 1):
        path = _part(folder, start // batch)
        if not path.is_file():
            pictures = np.stack(draw(range(start, min(start + batch, count))))
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                np.save(file, pictures)
        advance(turn)


def gather(folder: Path, count: int, batch: int) -> PictureSet:
    """All samples in ``samples.npz``, whose parts are deleted. Raises ``ReadError`` for a damaged part."""
    path = folder / SAMPLES
    if not path.is_file():
        write_archive(path, count, _read_parts(folder, count, batch))
    for number in range(-(-count // batch)):
        _part(folder, number).unlink(missing_ok=True)
    if (folder / PARTS).is_dir() and not any((folder / PARTS).iterdir()):
        (folder / PARTS).rmdir()
    return of_archive(path)


def _read_parts(folder: Path, count: int, batch: int) -> Iterator[np.ndarray]:
    for number in range(-(-count // batch)):
        path = _part(folder, number)
        with reading(path, "delete it and run again"):
            yield np.load(path, allow_pickle=False)


def _part(folder: Path, number: int) -> Path:
    return folder / PARTS / f"{number:06d}.npy"
