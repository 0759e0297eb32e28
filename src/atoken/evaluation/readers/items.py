"""One item of a data set, and what the readers share."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Item:
    """A picture, a video or an asset."""

    name: str
    """Its path below the data set's folder, with forward slashes."""
    path: Path
    label: int | None = None
    """Index of its class."""
    class_name: str | None = None
    captions: tuple[str, ...] = ()


def files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """All files with one of ``suffixes``, sorted, hidden ones left out. Raises ``FileNotFoundError`` for none."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    )
    if not found:
        raise FileNotFoundError(f"no file in {folder} ends in {', '.join(sorted(suffixes))}")
    return found


def name_below(folder: Path, path: Path) -> str:
    """Name of an item."""
    return path.relative_to(folder).as_posix()


def first_file(folder: Path, *patterns: str) -> Path:
    """The first file below ``folder`` that fits one of ``patterns``. Raises ``FileNotFoundError`` that lists them."""
    for pattern in patterns:
        if found := sorted(folder.glob(pattern)):
            return found[0]
    raise FileNotFoundError(f"{folder} has none of {', '.join(patterns)}")


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises ``ValueError`` that names the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
