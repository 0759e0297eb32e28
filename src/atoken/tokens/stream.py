"""Token files of any length: written tile by tile, read step by step, with a bounded part of them in memory."""

from __future__ import annotations

import copy
import math
import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..core.errors import ReadError
from ..core.files import AtomicWriter, atomic_write
from ..core.regular import open_regular
from ..core.text import shortened
from .checks import check_count, check_values
from .file import (
    DTYPES,
    bytes_of,
    check_sealed,
    checksum,
    head_of,
    read_header,
    read_modality,
    stored_values,
    unpacked,
    values_name,
)
from .header import TokenHeader, check_version
from .patch import PATCH
from .tokens import Tokens, as_latents

SPARE = 256
"""Bytes of the header kept for the numbers that grow while a file is written."""


class TokenWriter(AtomicWriter):
    """Writes the tokens of a video, tile after tile, to a ``.atok`` file that any reader of the format opens.

    The header, which counts what was written, and the checksum come last; at the end of a ``with`` block without an
    error the file is there, complete. Raises ``ValueError`` for tiles that do not fit each other.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self.tokens = 0
        self._first: TokenHeader | None = None
        self._like: dict[str, Any] = {}
        self._steps = 0
        self._times = array("d")  # small tensors that outlive the large ones of their tile would fragment the heap
        self._dtype, self._row = torch.float32, [0]

    @contextmanager
    def _written(self) -> Iterator[None]:
        with atomic_write(self.path) as temporary, temporary.open("w+b") as self._file:
            yield
            self._finish()

    def write(self, tile: Tokens) -> None:
        """Add the tokens of the next tile, which all but the last must fill."""
        if tile.times is None:
            raise ValueError(
                f"only tokens of a video are written tile by tile, not those of modality {tile.modality!r}"
            )
        check_values(tile.values, tile.kind, tile.fsq)
        stored, times = stored_values(tile), tile.times.tolist()
        if self._first is None:
            self._first, self._like = TokenHeader.of(tile), _common(tile)
            self._dtype, self._row = stored.dtype, list(stored.shape[1:])
            self._length = -(-(len(self._head(self._first, len(times))) + SPARE) // 8) * 8
            self._file.write(bytes(8 + self._length))
        else:
            self._check_next(tile, times)
        self._file.write(bytes_of(stored))
        self._steps += tile.grid[0]
        self._times.extend(times)
        self.tokens += len(tile)

    def _check_next(self, tile: Tokens, times: list[float]) -> None:
        """Raise ``ValueError`` unless the tile goes on where the one before it ended."""
        assert self._first is not None
        for name, value in _common(tile).items():
            if value != self._like[name]:
                raise ValueError(
                    f"{self.path}: the tiles of one file need the same {name}, not {shortened(self._like[name])} and "
                    f"then {shortened(value)}"
                )
        if self._first.first_frame + len(self._times) != self._steps * PATCH[0] or tile.first_frame:
            raise ValueError(f"{self.path}: only the last tile may end inside a latent step, and none may begin inside")
        if times[0] <= self._times[-1]:
            raise ValueError(
                f"{self.path}: the times of the tiles do not ascend: {times[0]} s comes after {self._times[-1]} s"
            )

    def _finish(self) -> None:
        if self._first is None:
            raise ValueError(f"{self.path}: there are no tokens to write")
        times = torch.tensor(self._times, dtype=torch.float64)
        self._file.write(bytes_of(times))
        whole = replace(self._first, grid=(self._steps, *self._first.grid[1:]), times=times)
        header = self._head(whole, len(times)).ljust(self._length)
        self._file.seek(0)
        self._file.write(len(header).to_bytes(8, "little") + header)
        digest, at = checksum(self._file)
        self._file.seek(at)
        self._file.write(digest)
        self._file.flush()

    def _head(self, header: TokenHeader, times: int) -> bytes:
        values = self._dtype, [self.tokens, *self._row]
        shapes = {values_name(header.kind): values, "times": (torch.float64, [times])}
        return head_of(header.to_metadata(), shapes)


def _common(tile: Tokens) -> dict[str, Any]:
    """What all tiles of one file have in common, by name."""
    facts = vars(TokenHeader.of(tile))
    own = {name: value for name, value in facts.items() if name not in ("grid", "times", "first_frame")}
    return own | {"rows and columns": tile.grid[1:], "dtype": tile.values.dtype, "channels": tile.values.shape[1]}


class TokenFile:
    """A ``.atok`` file of a video, open for reading step by step; it has the fields of ``TokenHeader``.

    Opening reads the file once to check its checksum, in blocks. Use it in a ``with`` block. Raises ``ReadError``
    for a file that is damaged, newer, not ours, or not of a video; ``FileNotFoundError``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = open_regular(self.path)
        try:
            self._open()
        except BaseException as error:
            self._file.close()
            if isinstance(error, ValueError) and not isinstance(error, ReadError):
                raise ReadError(f"{path}: {error}") from None
            raise

    def __enter__(self) -> TokenFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _open(self) -> None:
        header, self._start = read_header(self._file)
        metadata = header.pop("__metadata__", None) or {}
        try:
            with safe_open(self.path, "pt"):  # the header is well formed and fits the length of the file
                pass
        except SafetensorError:
            raise ValueError("the file is truncated or damaged") from None
        check_version(metadata)
        check_sealed(self._file)
        if unknown := {entry["dtype"] for entry in header.values()} - set(DTYPES):
            raise ValueError(f"the file holds tensors of {shortened(min(unknown))}, which token files do not have")
        values, times = values_name(metadata.get("kind", "")), "times"
        shapes = [header[name]["shape"] for name in (values, times) if name in header]
        if "coords" in header or [len(shape) for shape in shapes if all(shape)] != [2, 1]:
            raise ValueError("only token files of videos are read step by step")
        self._values = header[values]
        self.tokens: int = shapes[0][0]
        self.header = TokenHeader.from_metadata(metadata, self._read(header[times], 0, shapes[1][0]))
        check_count(self.header, self.tokens)

    def __getattr__(self, name: str) -> Any:
        """The facts of the header are those of the file."""
        if name == "header":  # not read yet
            raise AttributeError(name)
        return getattr(self.header, name)

    def frames(self, start: int, stop: int) -> TokenFile:
        """The same file, standing for the frames ``start`` ... ``stop - 1`` alone; see ``Tokens.frames``."""
        other = copy.copy(self)
        other.header = self.header.frames(start, stop)
        return other

    def latent_steps(self, first: int = 0) -> Iterator[Tensor]:
        """Latents of each step in time from ``first`` on, float [x * y * z, C]; raises ``ValueError`` for bad ones."""
        rows = math.prod(self.grid[1:])
        for index in range(first, self.grid[0]):
            values = unpacked(self.header, self._read(self._values, index * rows, rows))
            try:
                check_values(values, self.kind, self.fsq)
            except ValueError as error:
                raise ReadError(f"{self.path}: {error}") from None
            yield as_latents(self.kind, values, self.fsq).float()

    def _read(self, entry: dict[str, Any], first: int, rows: int) -> Tensor:
        """``rows`` rows of a tensor from ``first`` on."""
        dtype, shape = DTYPES[entry["dtype"]], entry["shape"][1:]
        size = math.prod(shape) * dtype.itemsize
        self._file.seek(self._start + entry["data_offsets"][0] + first * size)
        data = bytearray(self._file.read(rows * size))
        if len(data) != rows * size:
            raise ReadError(f"{self.path}: the file is truncated or damaged")
        return torch.frombuffer(data, dtype=dtype).view(rows, *shape)


def open_tokens(path: str | os.PathLike[str]) -> Tokens | TokenFile:
    """The tokens of a file; those of a video step by step, so close them. Raises as ``Tokens.load`` does."""
    return TokenFile(path) if read_modality(Path(path)) == "video" else Tokens.load(Path(path))
