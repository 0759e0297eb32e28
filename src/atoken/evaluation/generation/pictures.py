"""Sets of pictures: of a folder, of an npz file as the field writes it, or of arrays; read a few at a time."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...core.errors import ReadError, reading
from ...core.files import atomic_write
from ...core.regular import check_regular
from ...media.image.crop import adm_crop
from ...media.image.files import read_image
from ...media.suffixes import IMAGE_SUFFIXES
from ..datasets.items import files_below
from ..provenance import stamps

MEMBER = "arr_0.npy"
"""What holds the pictures of an npz file (guided-diffusion, arXiv 2105.05233): uint8 [N, H, W, 3]."""


@dataclass(frozen=True)
class PictureSet:
    """Pictures uint8 [H, W, 3], and how to read them."""

    name: str
    count: int
    read: Callable[[int, int], Sequence[np.ndarray] | np.ndarray]
    """Pictures ``first`` ... ``last - 1``; forward from call to call is fast."""
    identity: str
    """Equal for equal pictures: features that were computed once are found by it."""
    preparation: str = "as they are"
    """What is done to files before they are looked at, for the record."""


def identity_of(*facts: Any) -> str:
    """SHA-256 of JSON-ready values."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def of_arrays(name: str, pictures: Sequence[np.ndarray], *facts: Any) -> PictureSet:
    """Pictures in memory; ``facts`` decide on them."""
    return PictureSet(name, len(pictures), lambda first, last: pictures[first:last], identity_of(name, *facts))


def of_folder(folder: Path, side: int) -> PictureSet:
    """All pictures below a folder, scaled and cropped to ``side`` x ``side`` as guided-diffusion does it (ADM).

    Raises ``OSError`` where there are none, and in ``read`` ``ReadError`` for a damaged one.
    """
    paths = files_below(folder, IMAGE_SUFFIXES)

    def read(first: int, last: int) -> list[np.ndarray]:
        return [adm_crop(read_image(path), side) for path in paths[first:last]]

    facts = [[str(path.relative_to(folder)), stamps(path)] for path in paths]
    preparation = f"shorter side halved by boxes, then bicubic, centre crop {side} x {side} (ADM)"
    return PictureSet(folder.resolve().name, len(paths), read, identity_of(side, facts), preparation)


def of_archive(path: Path) -> PictureSet:
    """The pictures of an npz file. Raises ``FileNotFoundError``, and ``ReadError`` for another content."""
    with _Member(path) as member:
        count = member.shape[0]
    kept: list[_Member] = []

    def read(first: int, last: int) -> np.ndarray:
        if not kept or kept[0].place > first:
            while kept:
                kept.pop().close()
            kept.append(_Member(path))
        return kept[0].read(first, last)

    return PictureSet(path.name, count, read, identity_of(str(path.resolve()), stamps(path)))


def write_archive(path: Path, count: int, parts: Iterable[np.ndarray]) -> None:
    """Write pictures uint8 [n, H, W, 3] part by part to an npz file, atomically. Raises ``OSError``."""
    with (
        atomic_write(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
        archive.open(MEMBER, "w", force_zip64=True) as file,
    ):
        for number, part in enumerate(parts):
            if not number:
                facts = {"descr": "|u1", "fortran_order": False, "shape": (count, *part.shape[1:])}
                np.lib.format.write_array_header_1_0(file, facts)
            file.write(np.ascontiguousarray(part).tobytes())


def has_pictures(path: Path) -> bool:
    """Whether an npz file holds pictures beside statistics. Raises ``ReadError`` for a file that is no npz."""
    return MEMBER in names_in(path)


def names_in(path: Path) -> list[str]:
    """Names of the members of an npz file. Raises ``FileNotFoundError``, and ``ReadError`` for another file."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    with reading(path, "give an .npz file"), zipfile.ZipFile(path) as archive:
        return archive.namelist()


class _Member:
    """The pictures of an npz file as a stream, which a file of ten gigabytes needs."""

    def __init__(self, path: Path) -> None:
        self.path, self.place = path, 0
        check_regular(path)
        if MEMBER not in names_in(path):
            raise ReadError(f"{path} holds no arr_0: give an .npz file of pictures uint8 [N, H, W, 3]")
        self._archive = zipfile.ZipFile(path)
        self._file: IO[bytes] = self._archive.open(MEMBER)
        with reading(path, "write it again with numpy.savez"):
            version = np.lib.format.read_magic(self._file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            self.shape, by_columns, dtype = header(self._file)
        self._bytes = int(np.prod(self.shape[1:], dtype=np.int64))
        fits = len(self.shape) == 4 and self.shape[3] == 3 and dtype == np.uint8 and not by_columns
        size = self._archive.getinfo(MEMBER).file_size
        if not fits or not self.shape[0] or not 0 < self.shape[0] * self._bytes < size:
            raise ReadError(f"{path} holds {dtype} {list(self.shape)}: pictures are uint8 [N, H, W, 3]")

    def read(self, first: int, last: int) -> np.ndarray:
        """Pictures ``first`` ... ``last - 1``, not before the last that were read."""
        with reading(self.path, "write it again"):
            for _ in range(first - self.place):
                self._file.read(self._bytes)
            last = min(last, self.shape[0])
            data = self._file.read((last - first) * self._bytes)
            self.place = last
            return np.frombuffer(data, np.uint8).reshape(last - first, *self.shape[1:])

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
        self._archive.close()

    def __enter__(self) -> _Member:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
