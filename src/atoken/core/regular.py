"""Files that others made and named: regular ones alone are opened, also behind links, and none outside of a folder.

A pipe keeps its reader waiting for ever, and a device such as /dev/zero has no end.
"""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import TypeGuard

from .errors import ReadError
from .text import shortened

LONGEST_NAME, LONGEST_PART = 4096, 255
"""Bytes of a path, and of one folder's or file's name in it."""

_KINDS = ((stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"), (stat.S_ISCHR, "device"), (stat.S_ISBLK, "device"))


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """``open(path, "rb")`` of a regular file. Raises ``ReadError`` for a pipe, device or socket, and ``OSError``."""
    return open(path, "rb", opener=_opened)


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a regular file. Raises as ``open_regular``."""
    with open_regular(path) as file:
        return file.read()


def check_regular(path: str | os.PathLike[str]) -> None:
    """For what is about to be opened by a library: raises ``ReadError`` for a pipe, device or socket, ``OSError``."""
    _check(os.stat(path).st_mode, path)


def is_name(name: object) -> TypeGuard[str]:
    """Whether the system can have a file of that name: no NUL, no half of a surrogate pair as JSON can write it, none
    of its parts over ``LONGEST_PART`` bytes."""
    try:
        if not isinstance(name, str) or name == "" or len(name) > LONGEST_NAME:
            return False
        data = os.fsencode(name)
        return b"\0" not in data and all(len(part) <= LONGEST_PART for part in data.split(b"/"))
    except UnicodeEncodeError:
        return False


def below(folder: Path, name: object, table: object) -> Path:
    """The file below ``folder`` that ``table`` calls ``name``. Raises ``ReadError`` for a name that leads out of it.

    Links are followed: who keeps a data set elsewhere puts one in its place.
    """
    if not is_name(name):
        raise ReadError(f"{table} names {shortened(repr(name))}, which is no name of a file")
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise ReadError(f"{table} names {shortened(repr(name))}, outside of its folder: refused")
    return folder / path


class Folder:
    """Says what lies in a folder after links are followed.

    Each folder below it is resolved once, files whenever they are asked for: 100,000 take a second.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.realpath(path)
        """Its real path."""
        self._inside = os.path.join(self.path, "")
        self._folders: dict[str, str] = {}

    def real(self, file: str | os.PathLike[str]) -> str:
        """``os.path.realpath(file)``."""
        folder, last = os.path.split(file)
        if last in ("", os.curdir, os.pardir) or os.path.islink(file):
            return os.path.realpath(file)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return os.path.join(self._folders[folder], last)

    def holds(self, file: str | os.PathLike[str]) -> bool:
        """Whether ``file``, a path like that of the folder, is the folder or lies somewhere below it."""
        real = self.real(file)
        return real == self.path or real.startswith(self._inside)


def _opened(path: str, flags: int) -> int:
    check_regular(path)  # opening a device may do something
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    try:
        _check(os.fstat(descriptor).st_mode, path)  # it may have been replaced meanwhile
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(mode: int, path: str | os.PathLike[str]) -> None:
    """Folders pass: ``open`` has the right error for them."""
    for is_kind, kind in _KINDS:
        if is_kind(mode):
            raise ReadError(f"{os.fspath(path)} is a {kind}, not a regular file: write its content to a file first")
