"""Samples of a shard: a tar file on the disk, at an http address, or from a command that was asked for by name.

What a shard announces is checked before it is read: no sparse members, no more than the file can hold.
"""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any
from urllib.request import urlopen

from ..core.errors import ReadError, reading
from ..core.regular import open_regular
from ..core.text import shortened
from .config import SCHEMES, is_command

LARGEST = 1 << 30
"""Bytes of one file in a shard."""
RATIO, SLACK = 64, 1 << 20
"""A compressed shard may hold files of so many times its own bytes, and of so many bytes more: pictures and videos do
not shrink."""
GZIPPED = (".tar.gz", ".tgz")
PATIENCE = 60.0
"""Seconds that an http server may be silent."""


def samples(shard: str) -> Iterator[dict[str, Any]]:
    """The samples of a shard in its order: ``__key__``, and the bytes of each file by suffix, lower case, without dot.

    Neighbours whose names are equal up to the first dot are one sample (WebDataset's rule), as ``a.jpg``, ``a.txt`` and
    ``a.seg.png``. Where none of them has a name of one dot, the last dot separates: ``v1.0.jpg`` and ``v1.1.jpg`` are
    two. Raises ``ReadError`` that names the shard.
    """
    group: list[tuple[str, bytes]] = []
    start = ""
    for name, data in _files(shard):
        folder, slash, last = name.rpartition("/")
        first = f"{folder}{slash}{last.partition('.')[0]}"
        if group and first != start:
            yield from _split(start, group)
            group = []
        start = first
        group.append((name, data))
    if group:
        yield from _split(start, group)


def _split(start: str, group: list[tuple[str, bytes]]) -> Iterator[dict[str, Any]]:
    """One sample of files that share the beginning of their names, or one for each that the last dot separates."""
    fields = [name[len(start) + 1 :].lower() for name, _ in group]
    if any("." not in field for field in fields):
        yield {"__key__": start, **{field: data for field, (_, data) in zip(fields, group, strict=True)}}
        return
    by_stem: dict[str, dict[str, Any]] = {}
    for name, data in group:
        stem, _, suffix = name.rpartition(".")
        by_stem.setdefault(stem, {"__key__": stem})[suffix.lower()] = data
    yield from by_stem.values()


def _files(shard: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file with a suffix, but hidden ones."""
    with ExitStack() as stack:
        with reading(shard, "make or download it again"):
            tar, limit = _opened(shard, stack)
        while True:
            with reading(shard, "make or download it again"):
                entry = tar.next()
                if entry is None:
                    return
                last = entry.name.rpartition("/")[2]
                if not entry.isreg() or last.startswith(".") or "." not in last:
                    continue
                if entry.issparse():
                    name = shortened(repr(entry.name))
                    raise ReadError(f"{shard} holds {name} with holes, as of GNU tar -S: pack it again")
                _check_size(shard, entry, limit)
                file = tar.extractfile(entry)
                data = file.read() if file is not None else b""
                if len(data) < entry.size:
                    raise ReadError(f"{shard} ends within {shortened(repr(entry.name))}: make or download it again")
                tar.members = []  # type: ignore[attr-defined]  # which tarfile would keep
            yield entry.name, data


def _check_size(shard: str, entry: tarfile.TarInfo, limit: int) -> None:
    if entry.size > limit:
        raise ReadError(
            f"{shard} announces {entry.size:,} bytes for {shortened(repr(entry.name))}, and at most {limit:,} can be "
            "right: make or download it again"
        )


def _opened(shard: str, stack: ExitStack) -> tuple[tarfile.TarFile, int]:
    """The shard as a stream, and the most bytes that a member of it can have."""
    if is_command(shard):
        from webdataset.gopen import gopen

        file, limit = stack.enter_context(gopen(shard)), LARGEST
    elif shard.startswith(SCHEMES):
        file, limit = stack.enter_context(urlopen(shard, timeout=PATIENCE)), LARGEST
    else:
        file = stack.enter_context(open_regular(shard))
        limit = min(LARGEST, Path(shard).stat().st_size)
        if shard.lower().endswith(GZIPPED):
            limit = min(LARGEST, RATIO * limit + SLACK)
    if shard.lower().endswith(GZIPPED):
        file = stack.enter_context(gzip.GzipFile(fileobj=file))

    class Checked(tarfile.TarInfo):
        """Looks at sizes before tarfile reads anything of that size, extended headers among them."""

        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Any:
            entry = super().frombuf(buf, encoding, errors)
            _check_size(shard, entry, limit)
            return entry

    return stack.enter_context(_stream(file, Checked)), limit


def _stream(file: IO[bytes] | Any, kind: type[tarfile.TarInfo]) -> tarfile.TarFile:
    return tarfile.open(fileobj=file, mode="r|", tarinfo=kind)
