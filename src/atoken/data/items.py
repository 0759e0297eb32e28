"""What a data set holds: files, WebDataset shards and tables, in chunks that become one token shard each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..core.errors import ReadError, reading
from ..core.regular import read_regular
from ..core.text import decoded, shortened
from ..media.suffixes import ANIMATION_SUFFIXES, ASSET_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES
from ..tokens.samples import as_key
from .readers import caption_of
from .tar_samples import samples

MEDIA_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES | ASSET_SUFFIXES
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
PARQUET = ".parquet"
SAVED = "state.json"
"""What a folder has in which the datasets library saved a data set (``save_to_disk``)."""
MOST_BYTES = 1 << 30
"""Bytes of files that make a chunk at most: what a kill costs is bounded for videos, too."""
MEDIA_COLUMNS = ("image", "img", "jpg", "png", "webp", "picture", "video", "mp4", "file")
CAPTION_COLUMNS = ("caption", "captions", "text", "txt")
LABEL_COLUMNS = ("label", "cls", "class_id")
KEY_COLUMNS = ("__key__", "key", "id")


class Raw(NamedTuple):
    """One sample before it is read."""

    key: str
    where: str
    """What messages call it."""
    media: Path | bytes | None = None
    """A file, or the bytes of one."""
    suffix: str = ""
    """Of the bytes, with the dot."""
    label: int | None = None
    captions: tuple[str, ...] = ()
    error: str | None = None
    """Why there is none."""


@dataclass(frozen=True)
class File:
    """A file that is a sample."""

    path: str
    key: str
    label: int | None = None


@dataclass(frozen=True)
class Chunk:
    """Samples that make one shard: ``files``, all of a tar, or rows ``first`` ... ``last - 1`` of a table."""

    name: str
    """Path of the tar or the table, or of the first file."""
    stem: str = ""
    """What the keys of its samples begin with."""
    files: tuple[File, ...] = ()
    first: int = 0
    last: int = 0

    def raws(self) -> Iterator[Raw]:
        """The samples in order. Whatever cannot be had comes with an error; the others follow."""
        if self.files:
            yield from map(_of_file, self.files)
            return
        done = 0
        try:
            for raw in _of_table(self) if self.last else _of_tar(self):
                yield raw
                done += 1
        except (ValueError, OSError) as error:
            yield Raw(as_key(self.stem), self.name, error=f"{error}, after {done} samples")


def plan(files: Sequence[tuple[Path, Path]], per_shard: int, by_folder: bool) -> tuple[list[Chunk], dict[str, int]]:
    """Chunks of at most ``per_shard`` samples out of files and the paths that keys are made of; and the classes.

    A tar is a chunk of its own. With ``by_folder`` the label of a file is the number of the first folder of its path
    among all of these, by name. Raises ``ValueError`` for a file in no folder then, for two files of one key, and
    whatever the headers of tables raise.
    """
    single = [(path, below) for path, below in files if not (is_tar(path) or is_table(path))]
    labels: dict[str, int] = {}
    if by_folder:
        if bare := [path for path, below in single if len(below.parts) < 2]:
            raise ValueError(f"{bare[0]} lies in no folder that could be its class")
        labels = {name: number for number, name in enumerate(sorted({below.parts[0] for _, below in single}))}
    keyed = _keyed(single)
    chunks = list(_grouped([File(str(path), key, labels.get(below.parts[0])) for path, below, key in keyed], per_shard))
    stems: set[str] = set()
    for path, below in files:
        if not (is_tar(path) or is_table(path)):
            continue
        stem = _stem(below).as_posix()
        if stem in stems:
            raise ValueError(f"{path}: another source is called {stem}, too: tokenize them apart")
        stems.add(stem)
        rows = _rows(path) if is_table(path) else 0
        chunks += [Chunk(str(path), stem, first=at, last=min(at + per_shard, rows)) for at in range(0, rows, per_shard)]
        chunks += [Chunk(str(path), stem)] if is_tar(path) else []
    return chunks, {as_key(name): number for name, number in labels.items()}


def is_tar(path: Path) -> bool:
    """Whether a file is a WebDataset shard."""
    return path.name.lower().endswith(TAR_SUFFIXES)


def is_table(path: Path) -> bool:
    """Whether a file is Parquet, or names the rows of a saved data set."""
    return path.suffix.lower() == PARQUET or path.name == SAVED


def _stem(below: Path) -> Path:
    """What the keys of a source begin with: its path without the ending, or the folder of a saved data set."""
    if below.name == SAVED:
        return below.parent if below.parent.name else Path("rows")
    return below.with_name(below.name.partition(".")[0] or below.name)


def _keyed(files: Sequence[tuple[Path, Path]]) -> Iterator[tuple[Path, Path, str]]:
    """Each file with its key: its path without the ending, or with it where several differ in that alone."""
    short = [as_key(below.with_suffix("").as_posix()) for _, below in files]
    count: dict[str, int] = {}
    for key in short:
        count[key] = count.get(key, 0) + 1
    homes: dict[str, Path] = {}
    for (path, below), key in zip(files, short, strict=True):
        key = as_key(below.as_posix()) if count[key] > 1 else key
        if key in homes:
            raise ValueError(f"{homes[key]} and {path} would both have the key {shortened(key)}: tokenize them apart")
        homes[key] = path
        yield path, below, key


def _grouped(files: Sequence[File], per_shard: int) -> Iterator[Chunk]:
    """Neighbouring files of bounded number and bytes together."""
    group: list[File] = []
    size = 0
    for file in files:
        path = Path(file.path)
        own = path.stat().st_size if path.exists() else 0
        if group and (len(group) == per_shard or size + own > MOST_BYTES):
            yield Chunk(group[0].path, files=tuple(group))
            group, size = [], 0
        group.append(file)
        size += own
    if group:
        yield Chunk(group[0].path, files=tuple(group))


def _of_file(file: File) -> Raw:
    """A file, with the captions and the label in the files beside it."""
    path = Path(file.path)
    beside: dict[str, Any] = {"__key__": file.key}
    try:
        for suffix in ("txt", "cls", "json"):
            other = path.with_suffix(f".{suffix}")
            if other.is_file() and other != path:
                beside[suffix] = read_regular(other)
        label, captions = _facts(beside)
    except (ValueError, OSError) as error:
        return Raw(file.key, file.path, error=str(error))
    return Raw(file.key, file.path, path, path.suffix.lower(), file.label if label is None else label, captions)


def _of_tar(chunk: Chunk) -> Iterator[Raw]:
    for sample in samples(chunk.name):
        where = f"{chunk.name}, sample {shortened(sample['__key__'])}"
        key = as_key(f"{chunk.stem}/{sample['__key__']}")
        suffix = next((name for name in sample if f".{name}" in MEDIA_SUFFIXES), None)
        try:
            if suffix is None:
                raise ReadError(f"{where} has neither a picture nor a video nor a 3D file")
            label, captions = _facts(sample)
            yield Raw(key, where, sample[suffix], f".{suffix}", label, captions)
        except ValueError as error:
            yield Raw(key, where, error=str(error))


def _facts(files: dict[str, Any]) -> tuple[int | None, tuple[str, ...]]:
    """Label and captions out of the files ``cls``, ``json`` and ``txt`` of a sample. Raises ``ReadError``."""
    name = shortened(files["__key__"])
    label: int | None = None
    captions: list[str] = []
    if "json" in files:
        with reading(f"{name}.json"):
            facts = json.loads(files["json"])
        if isinstance(facts, dict):
            label, captions = _named(facts, f"{name}.json")
    if "cls" in files:
        with reading(f"{name}.cls", "it should hold the number of a class"):
            text = decoded(files["cls"]).strip()
        if not text.isdecimal():
            raise ReadError(f"{name}.cls holds {shortened(text)!r}, which is no number of a class")
        label = int(text)
    if "txt" in files:
        captions = [caption_of(files, needed=True) or ""]
    return label, tuple(captions)


def _named(facts: dict[str, Any], where: str) -> tuple[int | None, list[str]]:
    """Label and captions by the names that they go by. Raises ``ReadError`` where they are of another type."""
    label = next((facts[name] for name in LABEL_COLUMNS if facts.get(name) is not None), None)
    if label is not None and type(label) is not int:
        raise ReadError(f"{where} has the label {shortened(label)!r}, which is no number of a class")
    found: Any = next((facts[name] for name in CAPTION_COLUMNS if facts.get(name) is not None), [])
    captions = [found] if isinstance(found, str) else found
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise ReadError(f"{where} has captions that are no texts")
    return label, captions


def _rows(path: Path) -> int:
    """Rows of a Parquet file or of a saved data set. Raises ``ReadError``, and ``ValueError`` without the library."""
    arrow = _arrow()
    with reading(path):
        if path.suffix.lower() == PARQUET:
            return int(arrow.ParquetFile(path).metadata.num_rows)
        return len(_saved(path))


def _of_table(chunk: Chunk) -> Iterator[Raw]:
    path = Path(chunk.name)
    place = chunk.first
    for rows in _batches(path, chunk.first, chunk.last):
        for row in rows:
            where = f"{chunk.name}, row {place}"
            name = next((str(row[column]) for column in KEY_COLUMNS if row.get(column) is not None), f"{place:08d}")
            key = as_key(f"{chunk.stem}/{name}")
            place += 1
            try:
                media, suffix = _media(row, where)
                label, captions = _named(row, where)
                yield Raw(key, where, media, suffix, label, tuple(captions))
            except ValueError as error:
                yield Raw(key, where, error=str(error))


def _media(row: dict[str, Any], where: str) -> tuple[bytes, str]:
    """The bytes of a row's picture or video, and their ending. Raises ``ReadError``."""
    column = next((name for name in MEDIA_COLUMNS if row.get(name) is not None), None)
    if column is None:
        raise ReadError(f"{where} has none of the columns {', '.join(MEDIA_COLUMNS)}; there are {', '.join(row)[:200]}")
    value = row[column]
    name = value.get("path") or "" if isinstance(value, dict) else ""
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        raise ReadError(f"{where}: column {column} holds no bytes of a file")
    suffix = Path(name).suffix.lower()
    return data, suffix if suffix in MEDIA_SUFFIXES else ".mp4" if column in ("video", "mp4") else ".png"


def _batches(path: Path, first: int, last: int) -> Iterator[list[dict[str, Any]]]:
    """Rows ``first`` ... ``last - 1``, some at a time."""
    arrow = _arrow()
    with reading(path):
        if path.name == SAVED:
            saved = _saved(path).with_format("arrow")
            for at in range(first, last, 64):
                yield saved[at : min(at + 64, last)].to_pylist()
            return
        file = arrow.ParquetFile(path)
        start = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if start < last and start + rows > first:
                for batch in file.iter_batches(64, row_groups=[group]):
                    skipped = slice(max(0, first - start), max(0, last - start))
                    yield batch.to_pylist()[skipped]
                    start += len(batch)
            else:
                start += rows


def _arrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ValueError("Parquet files and saved data sets need: pip install 'atoken[datasets]'") from None
    return pyarrow.parquet


def _saved(path: Path) -> Any:
    import datasets

    return datasets.load_from_disk(str(path.parent))


def needs_file(suffix: str) -> bool:
    """Whether bytes of that ending are read from a file: all but still pictures."""
    return suffix not in IMAGE_SUFFIXES or suffix in ANIMATION_SUFFIXES
