"""With which options the results in a folder were made, so that the same command with others does not keep them."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

RECORD = ".atoken-options.jsonl"
"""File beside the results: a line of JSON for each, ``{"result": name, "options": {option: value} or null}``.

The last line about a name holds. null stands before a result is replaced, so that a killed command leaves no result
that is taken for one with the new options. Lines are appended in one write each; a torn one is passed over.
"""

Options = Mapping[str, str]


class Record:
    """The records of the folders that results go into, each read once."""

    def __init__(self) -> None:
        self._known: dict[Path, dict[str, Options | None]] = {}

    def check(self, target: Path, options: Options) -> bool:
        """Whether the result ``target``, which is there, is finished: one without a record is.

        Raises ``ValueError`` that names the options where it was made with others.
        """
        known = self._of(target.parent)
        if target.name not in known:
            return True
        made = known[target.name]
        if made is None:
            return False
        differing = [name for name in sorted({*made, *options}) if made.get(name) != options.get(name)]
        if differing:
            was, now = (", ".join(_shown(name, values.get(name)) for name in differing) for values in (made, options))
            raise ValueError(f"{target} was made with {was}, not with {now}; --overwrite replaces it")
        return True

    @contextmanager
    def writing(self, target: Path, options: Options) -> Iterator[None]:
        """Record the options of the result that the block writes."""
        if os.path.lexists(target):
            self._add(target, None)
        yield
        self._add(target, options)

    def _of(self, folder: Path) -> dict[str, Options | None]:
        if folder not in self._known:
            self._known[folder] = _read(folder / RECORD)
        return self._known[folder]

    def _add(self, target: Path, options: Options | None) -> None:
        self._of(target.parent)[target.name] = options
        line = (json.dumps({"result": target.name, "options": options}) + "\n").encode()
        path = target.parent / RECORD
        with open(path, "a+b", buffering=0) as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line  # behind one that a full disk cut off
            if file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _read(path: Path) -> dict[str, Options | None]:
    known: dict[str, Options | None] = {}
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return known
    for line in lines:
        try:
            entry = json.loads(line)
            options = entry["options"]
            known[entry["result"]] = None if options is None else {str(k): str(v) for k, v in options.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue  # a line that a kill cut off, or another's
    return known


def _shown(option: str, value: str | None) -> str:
    return f"no {option}" if value is None else f"{option} {value}"
