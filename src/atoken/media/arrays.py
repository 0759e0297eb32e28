"""Numpy's own files, checked on their headers: sizes before memory is taken, and no pickles."""

from __future__ import annotations

import ast
import os
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from ..core.errors import ReadError, reading
from ..core.regular import open_regular

LONGEST_HEADER = 10_000


def read_npy(path: Path, most: int) -> np.ndarray:
    """The array of an ``.npy`` file, of at most ``most`` numbers.

    Raises ``ReadError`` where it is damaged, larger, or shorter than its header says.
    """
    with open_regular(path) as file, reading(path):
        size = os.fstat(file.fileno()).st_size
        return _read(file, size, most, str(path))


def read_npz(archive: zipfile.ZipFile, name: str, most: int, what: object) -> np.ndarray:
    """The array ``name`` of an opened ``.npz``, of at most ``most`` numbers. Raises ``ReadError`` as ``read_npy``."""
    with reading(what):
        try:
            info = archive.getinfo(f"{name}.npy")
        except KeyError:
            raise ReadError(f"{what} has no array {name!r}") from None
        with archive.open(info) as file:
            return _read(file, info.file_size, most, f"{what}: {name}")


def _read(file: IO[bytes], size: int, most: int, name: str) -> np.ndarray:
    """``size`` is what the file or archive says that the whole takes."""
    version = file.read(8)
    if version[:6] != b"\x93NUMPY" or version[6] not in (1, 2, 3):
        raise ReadError(f"{name} is no .npy array: save it again with numpy")
    width = 2 if version[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > LONGEST_HEADER:
        raise ReadError(f"{name} has a header of {length} bytes: save it again with numpy")
    header = ast.literal_eval(file.read(length).decode("latin1"))
    kind, shape = np.dtype(header["descr"]), header["shape"]
    if kind.hasobject or not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise ReadError(f"{name} is no array of numbers ({kind}, {shape}): save it again with numpy")
    count = 1
    for n in shape:
        count *= n
    if count > most:
        raise ReadError(f"{name} announces {count} numbers, more than the limit of {most}")
    if count * kind.itemsize > size:
        raise ReadError(f"{name} is truncated: {count} numbers of {kind} were announced")
    data = file.read(count * kind.itemsize)
    array = np.frombuffer(bytearray(data), kind, count) if count else np.zeros(0, kind)
    return array.reshape(shape, order="F" if header["fortran_order"] else "C")
