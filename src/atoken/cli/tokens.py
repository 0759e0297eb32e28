"""``atoken tokens``: token files and shards into one another: gathered, merged, divided, taken apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import typer

from ..core.files import atomic_write
from ..tokens.samples import TokenSample, as_key
from ..tokens.shards import SUFFIX, Record, ShardWriter, TokenShard, write_shards
from ..tokens.tokens import Tokens
from . import options, paths
from .report import bytes_text, clean, say, sentence

TOKEN_FILE = ".atok"
FORMATS = ("atoks", "atok")


@dataclass
class Selection:
    """The samples of some token files and shards that are wanted, and the sentences about those that failed."""

    sources: Sequence[paths.Source]
    keys: Sequence[str]
    part: slice
    failures: list[str] = field(default_factory=list)

    def records(self) -> Iterator[Record]:
        """The wanted samples in order; one that cannot be read is left out and noted."""
        for path, number, record in self._places():
            try:
                yield record if isinstance(record, Record) else record.record(number)
            except (ValueError, OSError) as error:
                self.failures.append(sentence(error, path))

    def _places(self) -> Iterator[tuple[Path, int, Record | TokenShard]]:
        """Where each of the wanted samples is to be had."""
        first, last = self.part.start or 0, self.part.stop
        count = 0
        for source in self.sources:
            for number, key, home in self._contents(source):
                if self.keys and not any(fnmatchcase(key, pattern) for pattern in self.keys):
                    continue
                if count >= first and (last is None or count < last):
                    yield source.path, number, home
                count += 1

    def _contents(self, source: paths.Source) -> Iterator[tuple[int, str, Record | TokenShard]]:
        """Number and key of each sample of a file."""
        try:
            if source.path.suffix.lower() == SUFFIX:
                with TokenShard(source.path) as shard:
                    yield from ((number, key, shard) for number, key in enumerate(shard.keys))
                return
            key = as_key(source.below.with_suffix("").as_posix())
            tokens = Tokens.load(source.path)
            yield 0, key, Record(key, TokenSample(key=key, tokens=tokens).to_bytes(), len(tokens))
        except (ValueError, OSError) as error:
            self.failures.append(sentence(error, source.path))


def convert(inputs: Sequence[str], out: Path, form: str, keys: Sequence[str], part: str | None, per_shard: int) -> None:
    """Write the samples of ``inputs`` to ``out``. Raises ``ValueError`` or ``OSError`` with one sentence."""
    options.check_choice("--format", form, FORMATS)
    options.check_positive("--per-shard", per_shard)
    sources, problems = paths.expand(inputs, lambda path: path.suffix.lower() in (SUFFIX, TOKEN_FILE), "token file")
    selection = Selection(sources, keys, parse_part(part), problems)
    one = out.suffix.lower() == SUFFIX
    if one and any(source.path.resolve() == out.resolve() for source in sources):
        raise ValueError(f"--out {out} is itself an input: give another name")
    paths.check_folder(out.parent if one else out)
    if form == "atok":
        if one:
            raise ValueError(f"--out {out} names a shard, and --format atok writes many files: give a folder")
        count = sum(1 for record in selection.records() if _unpack(record, out, selection.failures))
    elif one:
        with ShardWriter(out) as writer:
            for record in selection.records():
                writer.write_record(record)
        count = len(writer)
    else:
        count = sum(len(TokenShard(path)) for path in write_shards(out, selection.records(), per_shard))
    typer.echo(clean(f"{count} samples in {out}" + (f" ({bytes_text(out.stat().st_size)})" if one else "")))
    for failure in selection.failures:
        say(f"error: {failure}")
    if selection.failures:
        raise typer.Exit(2)


def _unpack(record: Record, out: Path, failures: list[str]) -> bool:
    """Write a sample as ``KEY.atok``, unless the key leads out of the folder or another file is there."""
    below = PurePosixPath(record.key)
    target = out / below.with_name(f"{below.name}{TOKEN_FILE}")
    if below.is_absolute() or ".." in below.parts or "\\" in record.key or ":" in record.key:
        failures.append(f"sample {record.key}: its key is no path inside of a folder")
    elif target.is_file() and target.read_bytes() == record.data:
        return True  # of a run that was cut off
    elif target.exists():
        failures.append(f"{target} is there already: give another --out")
    else:
        with atomic_write(target) as temporary:
            temporary.write_bytes(record.data)
        return True
    return False


def parse_part(text: str | None) -> slice:
    """``"A:B"`` as the samples A ... B - 1, either of which may be left out. Raises ``ValueError``."""
    if text is None:
        return slice(None)
    ends = text.split(":")
    if len(ends) != 2 or not all(end == "" or (end.isascii() and end.isdecimal()) for end in ends):
        raise ValueError(f"--part is {text!r}: give the first sample and the one after the last, such as 0:1000")
    first, last = (int(end) if end else None for end in ends)
    return slice(first, last)
