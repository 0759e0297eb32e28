"""What a checkpoint's folder holds besides tensors: progress under a checksum of every byte."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..core.errors import ReadError, reading
from ..core.hashing import file_hash

PROGRESS, METADATA = "progress.json", ".metadata"
KEYS = frozenset({"step", "skipped", "cursors", "model"})
"""Of ``progress.json``; those written today also have ``files``, sha256 by name, and ``sha256``, of all the rest."""
REMEDY = "delete its folder"


def sealed(facts: dict[str, Any]) -> str:
    """``facts`` as JSON that ends with the sha256 of the rest."""
    body = json.dumps(facts)
    return f'{body[:-1]}, "sha256": "{hashlib.sha256(body.encode()).hexdigest()}"}}'


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """sha256 of files in ``folder`` by name."""
    return {name: file_hash(folder / name) for name in names}


def read_progress(folder: Path) -> dict[str, Any]:
    """The facts of ``progress.json``, with ``files`` empty for a checkpoint of before there were checksums.

    Raises ``ReadError`` where it is missing, damaged, of another step than the folder's name says, or has other keys.
    """
    path = folder / PROGRESS
    if not path.is_file():
        raise ReadError(f"{folder} has no {PROGRESS}: {REMEDY}")
    with reading(path, REMEDY):
        text = path.read_text(encoding="utf-8")
        facts = json.loads(text)
        keys = set(facts)
    if "sha256" in keys:
        del facts["sha256"]
        if sealed(facts) != text:
            raise ReadError(f"{path} is damaged (its checksum does not fit): {REMEDY}")
        if "files" not in keys:
            raise ReadError(f"{path} lacks the key 'files': {REMEDY}")
        keys -= {"sha256", "files"}
    if keys != KEYS:
        odd = sorted(keys ^ KEYS)[0]
        raise ReadError(f"{path} {'lacks the' if odd in KEYS else 'has an unknown'} key {odd[:40]!r}: {REMEDY}")
    _check_progress(path, facts)
    return {"files": {}, **facts}


def _check_progress(path: Path, facts: dict[str, Any]) -> None:
    if type(facts["step"]) is not int or facts["step"] != step_of(path.parent):
        raise ReadError(f"{path} says step {str(facts['step'])[:40]!r} in a folder of another step: {REMEDY}")
    if type(facts["skipped"]) is not int or not 0 <= facts["skipped"] <= facts["step"]:
        raise ReadError(f"{path} says skipped {str(facts['skipped'])[:40]!r}, which cannot be: {REMEDY}")
    cursors = facts["cursors"]
    if not isinstance(cursors, list) or not cursors or not all(isinstance(each, dict) for each in cursors):
        raise ReadError(f"{path} has no cursors, a table for each rank: {REMEDY}")
    files = facts.get("files", {})
    if not isinstance(files, dict) or not all(isinstance(digest, str) for digest in files.values()):
        raise ReadError(f"{path} has no files, each with its sha256: {REMEDY}")


def step_of(folder: Path) -> int | None:
    """N of a folder ``step-N``, None for another name."""
    head, _, number = folder.name.partition("-")
    return int(number) if head == "step" and number.isdecimal() and number.isascii() else None


def check_files(folder: Path, expected: dict[str, str]) -> None:
    """Raises ``ReadError`` for a file that is missing or not the one whose sha256 is expected."""
    for name, digest in expected.items():
        if Path(name).name != name or not (folder / name).is_file():
            raise ReadError(f"{folder} lacks the file {name[:80]!r}: {REMEDY}")
        if digests(folder, [name])[name] != digest:
            raise ReadError(f"{folder / name} is damaged (its checksum does not fit): {REMEDY}")
