"""One item of a data set, and what the readers share."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import reading
from ...core.regular import read_regular
from ...core.text import decoded


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
    """All files with one of ``suffixes``, sorted, hidden ones left out; links to folders are followed.

    Raises ``FileNotFoundError`` for none, and ``OSError`` for a folder that cannot be read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    found = sorted(path for path in _walk(folder) if path.suffix.lower() in suffixes)
    if not found:
        raise FileNotFoundError(f"no file in {folder} ends in {', '.join(sorted(suffixes))}")
    return found


def _walk(folder: Path) -> Iterator[Path]:
    """Files below ``folder``; each folder is read once, so that a loop of links ends."""

    def fail(error: OSError) -> None:
        raise error

    seen: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True, onerror=fail):
        real = os.path.realpath(root)
        folders[:] = () if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            yield from (Path(root, name) for name in names if not name.startswith("."))
        seen.add(real)


def name_below(folder: Path, path: Path) -> str:
    """Name of an item."""
    return path.relative_to(folder).as_posix()


def first_file(folder: Path, *patterns: str) -> Path:
    """The first file below ``folder`` that fits one of ``patterns``. Raises ``FileNotFoundError`` that lists them."""
    for pattern in patterns:
        if found := sorted(folder.glob(pattern)):
            return found[0]
    raise FileNotFoundError(f"{folder} has none of {', '.join(patterns)}")


def read_text(path: Path) -> str:
    """A text file, in UTF-8 or as its byte order mark says. Raises ``ValueError`` that names the file."""
    data = read_regular(path)
    try:
        return decoded(data).replace("\r\n", "\n").replace("\r", "\n")
    except ValueError as error:
        raise ValueError(f"{path} is {error}: save it as UTF-8") from None


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises ``ValueError`` that names the file."""
    text = read_text(path)
    with reading(path, "it should hold JSON"):
        return json.loads(text)


def read_csv(path: Path, *columns: str, strict: bool = True) -> Iterator[list[str]]:
    """The values of ``columns`` in each row below the header of a CSV file; empty ones where a row is too short.

    Raises ``ValueError`` that names the file where a column is missing, and, if ``strict``, a stray quote.
    """
    rows = csv.DictReader(io.StringIO(read_text(path)), restval="", strict=strict)
    try:
        if missing := [column for column in columns if column not in (rows.fieldnames or ())]:
            raise ValueError(f"{path} needs a column {missing[0]!r} in its first line")
        for row in rows:
            yield [row[column] for column in columns]
    except csv.Error as error:
        raise ValueError(f"{path}, line {rows.reader.line_num}: {error}") from None
