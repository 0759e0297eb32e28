"""Token shards, ``.atoks``: many samples in one safetensors file, each found by its key (docs/tokens.md)."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import tempfile
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, NamedTuple

from torch.utils.data import Dataset

from ..core.errors import ReadError
from ..core.files import AtomicWriter, atomic_write, whole_folder
from ..core.regular import open_regular
from ..core.text import shortened
from .file import BLANK, CHECKSUM, LARGEST_HEADER, MISMATCH, read_header
from .samples import TokenSample, check_key

SUFFIX = ".atoks"
VERSION = 1
MAPPED = 64
"""Shards of a folder that are mapped at one time, each of which holds a file open."""

Path_ = str | os.PathLike[str]


class Record(NamedTuple):
    """A sample as it is stored."""

    key: str
    data: bytes
    """A whole ``.atok`` file."""
    tokens: int


class ShardWriter(AtomicWriter):
    """Writes one shard, sample after sample; at the end of a ``with`` block without an error it is there, complete.

    Equal samples in the same order give the same bytes. Only the keys are kept in memory. Processes that write at the
    same time each take a shard of their own. Raises ``ValueError`` for a key that is there already and where there are
    no samples.
    """

    def __init__(self, path: Path_) -> None:
        super().__init__(path)
        self.tokens = 0
        self._lengths: dict[str, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._lengths)

    @contextmanager
    def _written(self) -> Iterator[None]:
        with atomic_write(self.path) as temporary, tempfile.TemporaryFile(dir=self.path.absolute().parent) as samples:
            self._samples: IO[bytes] = samples  # the header comes first in the file and is known last: they wait here
            yield
            self._finish(temporary)

    def write(self, sample: TokenSample) -> None:
        """Add a sample."""
        self.write_record(Record(sample.key, sample.to_bytes(), len(sample.tokens)))

    def write_record(self, record: Record) -> None:
        """Add a sample as another shard holds it."""
        key, data, tokens = record
        check_key(key)
        if key in self._lengths:
            raise ValueError(f"{self.path}: there are two samples with the key {shortened(key)}")
        self._samples.write(data)
        self._lengths[key] = len(data), tokens
        self.tokens += tokens

    def _finish(self, temporary: Path) -> None:
        head = _head(self._lengths)
        if len(head) > LARGEST_HEADER:
            raise ValueError(f"{self.path}: {len(self)} samples are too many for one shard: write several")
        if not self._lengths:
            raise ValueError(f"{self.path}: there are no samples to write")
        with temporary.open("wb") as file:
            file.write(len(head).to_bytes(8, "little") + head)
            self._samples.seek(0)
            shutil.copyfileobj(self._samples, file, 1 << 20)


def _head(lengths: Mapping[str, tuple[int, int]]) -> bytes:
    """The JSON header for samples of so many (bytes, tokens), with its checksum."""
    metadata = {"format": "atoks", "version": str(VERSION)}
    metadata["tokens"] = json.dumps([tokens for _, tokens in lengths.values()], separators=(",", ":"))
    header: dict[str, Any] = {"__metadata__": {**metadata, "checksum": BLANK.decode()}}
    end = 0
    for key, (size, _) in lengths.items():
        start, end = end, end + size
        header[key] = {"dtype": "U8", "shape": [size], "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    at = text.index(CHECKSUM) + len(CHECKSUM)
    return text[:at] + hashlib.sha256(text).hexdigest().encode() + text[at + 64 :]


class TokenShard:
    """A shard, open for reading by key or by number; what is not asked for is not read.

    Opening reads the header alone. Each sample has a checksum of its own: one that is damaged is refused when it is
    read, the others stay readable. Raises ``ReadError`` for a file that is cut off, newer or no shard, and whose header
    is damaged; ``FileNotFoundError``.
    """

    def __init__(self, path: Path_) -> None:
        self.path = Path(path)
        self._map: mmap.mmap | None = None
        try:
            with open_regular(self.path) as file:
                metadata, entries, self._start = _read_index(file)
            self._places = _places(entries, self.path.stat().st_size - self._start)
            self.lengths: list[int] = _lengths(metadata, self._places)
        except ReadError:
            raise
        except ValueError as error:
            raise ReadError(f"{path}: {error}") from None
        self.keys: list[str] = list(entries)
        """In the order of the file."""

    def __len__(self) -> int:
        return len(self.keys)

    def __enter__(self) -> TokenShard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[TokenSample]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> TokenSample:
        """The sample at that place. Raises ``IndexError``, and ``ReadError`` that names its key where it is damaged."""
        return self._read(number)[0]

    def record(self, number: int) -> Record:
        """The sample at that place as it is stored, checked all the same; raises as reading it does."""
        return Record(self.keys[number], self._read(number)[1], self.lengths[number])

    def _read(self, number: int) -> tuple[TokenSample, bytes]:
        if self._map is None:
            with open_regular(self.path) as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        key, (start, end) = self.keys[number], self._places[number]
        data = self._map[self._start + start : self._start + end]
        try:
            sample = TokenSample.from_bytes(data)
            if sample.key != key or len(sample.tokens) != self.lengths[number]:
                raise ValueError("it is not the sample that the header names")
        except ValueError as error:
            raise ReadError(f"{self.path}, sample {shortened(key)}: {error}") from None
        return sample, data

    def close(self) -> None:
        """Give the file up; it is opened again where a sample is asked for."""
        if self._map is not None:
            self._map.close()
            self._map = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens the file anew."""
        return TokenShard, (self.path,)


def _read_index(file: IO[bytes]) -> tuple[dict[str, str], dict[str, Any], int]:
    """Metadata, entries by key, and where the samples begin. Raises ``ValueError``."""
    entries, start = read_header(file)
    metadata = entries.pop("__metadata__", None)
    if not isinstance(metadata, dict) or metadata.get("format") != "atoks":
        raise ValueError("not a token shard: a safetensors file without the atoks header")
    if metadata.get("version") != str(VERSION):
        raise ValueError(
            f"version {shortened(metadata.get('version'))} of the format, and this one reads version {VERSION}"
        )
    file.seek(8)
    text = file.read(start - 8)
    at = text.find(CHECKSUM) + len(CHECKSUM)
    if (
        at < len(CHECKSUM)
        or hashlib.sha256(text[:at] + BLANK + text[at + 64 :]).hexdigest().encode() != text[at : at + 64]
    ):
        raise ValueError(MISMATCH)
    return metadata, entries, start


def _places(entries: Mapping[str, Any], size: int) -> list[tuple[int, int]]:
    """Where each sample lies among ``size`` bytes. Raises ``ValueError`` unless they follow each other to the end."""
    places, end = [], 0
    for key, entry in entries.items():
        try:
            start, stop = entry["data_offsets"]
            whole = type(start) is type(stop) is int  # 8.0 is 8, and no place in a file
            fits = whole and entry["dtype"] == "U8" and entry["shape"] == [stop - start] and start == end < stop
        except (KeyError, TypeError, ValueError):
            fits = False
        if not fits:
            raise ValueError(f"the header contradicts itself at {shortened(key)}")
        places.append((start, stop))
        end = stop
    if end != size or not places:
        raise ValueError(f"the file is cut off or damaged: {size:,} bytes of samples, and the header names {end:,}")
    return places


def _lengths(metadata: Mapping[str, Any], places: Sequence[tuple[int, int]]) -> list[int]:
    """Tokens of each sample, each of which takes a byte at least. Raises ``ValueError``."""
    try:
        lengths = json.loads(metadata["tokens"])
        if len(lengths) == len(places) and all(
            type(length) is int and 0 < length <= end - start
            for length, (start, end) in zip(lengths, places, strict=True)
        ):
            return list(lengths)
    except (KeyError, TypeError, ValueError, RecursionError):
        pass
    raise ValueError("the header does not say how many tokens each sample has")


class TokenShards(Dataset[TokenSample]):
    """All samples of some shards by number or key: a map-style dataset of torch.

    ``paths`` is a folder, whose shards are taken in the order of their names, one shard, or a list of both. Raises
    ``FileNotFoundError`` where there are none, and ``ReadError`` for a shard that cannot be read.
    """

    def __init__(self, paths: Path_ | Sequence[Path_]) -> None:
        self.shards = [TokenShard(path) for path in find_shards(paths)]
        self.lengths = [length for shard in self.shards for length in shard.lengths]
        """Tokens of each sample."""
        self._ends = list(accumulate(map(len, self.shards)))
        self._numbers: dict[str, int] | None = None
        self._mapped: OrderedDict[int, TokenShard] = OrderedDict()

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, number: int | str) -> TokenSample:
        """The sample of that number or key.

        Raises ``IndexError`` or ``KeyError``, and ``ReadError`` that names shard and key where it is damaged.
        """
        shard, place = self._mapped_place(number)
        return shard[place]

    def record(self, number: int) -> Record:
        """The sample of that number as it is stored, checked; raises as reading it does."""
        shard, place = self._mapped_place(number)
        return shard.record(place)

    def _mapped_place(self, number: int | str) -> tuple[TokenShard, int]:
        shard, place = self._find(self.numbers[number] if isinstance(number, str) else number)
        self._mapped[shard] = self.shards[shard]
        self._mapped.move_to_end(shard)
        if len(self._mapped) > MAPPED:
            self._mapped.popitem(last=False)[1].close()
        return self.shards[shard], place

    def key(self, number: int) -> str:
        """Key of the sample of that number. Raises ``IndexError``."""
        shard, place = self._find(number)
        return self.shards[shard].keys[place]

    @property
    def numbers(self) -> dict[str, int]:
        """The number of each key. Raises ``ValueError`` where two samples have one key."""
        if self._numbers is None:
            keys = (key for shard in self.shards for key in shard.keys)
            self._numbers = {key: number for number, key in enumerate(keys)}
            if len(self._numbers) != len(self):
                self._refuse_doubles()
        return self._numbers

    def _refuse_doubles(self) -> None:
        self._numbers = None
        homes: dict[str, Path] = {}
        for shard in self.shards:
            for key in shard.keys:
                if key in homes:
                    raise ValueError(f"{homes[key]} and {shard.path} both have a sample {shortened(key)}")
                homes[key] = shard.path

    def _find(self, number: int) -> tuple[int, int]:
        """Shard, and the place in it."""
        if not -len(self) <= number < len(self):
            raise IndexError(f"there are {len(self)} samples, and none has the number {number}")
        number %= len(self)
        shard = bisect_right(self._ends, number)
        return shard, number - (self._ends[shard - 1] if shard else 0)


def find_shards(paths: Path_ | Sequence[Path_]) -> list[Path]:
    """The shards that ``paths`` name: files as they are, and those in folders, by name.

    Raises ``FileNotFoundError`` for what is not there and for a folder without shards.
    """
    found: list[Path] = []
    for path in map(Path, [paths] if isinstance(paths, str | os.PathLike) else paths):
        files = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
        if not files or not path.exists():
            raise FileNotFoundError(f"no token shards ({SUFFIX}) at {path}")
        found += files
    if not found:
        raise FileNotFoundError("no token shards were named")
    return found


def write_shards(folder: Path_, records: Iterable[Record], per_shard: int) -> list[Path]:
    """Write ``records`` to ``folder/tokens-000000.atoks`` and on, ``per_shard`` of them in each; returns the paths.

    A shard appears when it is complete, and a new folder when all are. Raises ``ValueError`` where the folder has
    shards already.
    """
    folder = Path(folder)
    if taken := sorted(folder.glob(f"*{SUFFIX}")):
        raise ValueError(f"{taken[0]} is there already: give another folder")
    written: list[Path] = []
    coming = iter(records)
    record = next(coming, None)
    if record is None:
        return written
    with whole_folder(folder) as place:
        while record is not None:
            path = folder / shard_name(len(written))
            with ShardWriter(place / path.name) as writer:
                while record is not None and len(writer) < per_shard:
                    writer.write_record(record)
                    record = next(coming, None)
            written.append(path)
    return written


def shard_name(number: int) -> str:
    """Name of the shard of that number in a folder."""
    return f"tokens-{number:06d}{SUFFIX}"
