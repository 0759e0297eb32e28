"""``atoken export`` and ``import``: token shards as the files that other people's trainers read, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from ..core.errors import ReadError
from ..export.formats import export as write
from ..export.readers import Maker, read
from ..tokens.shards import Record, TokenShard, TokenShards, write_shards
from ..weights.load import load
from . import options, paths
from .report import clean


def export(shards: Sequence[Path], form: str, out: Path) -> None:
    """Write the samples of ``shards`` to ``out``. Raises ``ValueError`` or ``OSError`` with one sentence."""
    count = write(TokenShards(shards), form, out)
    typer.echo(clean(f"{count} samples for {form} in {out}"))


def import_samples(source: Path, form: str, out: Path, model: str | None, fps: float | None, per_shard: int) -> None:
    """Write what ``source`` holds to shards in ``out``. Raises ``ValueError`` or ``OSError`` with one sentence."""
    options.check_positive("--per-shard", per_shard)
    paths.check_folder(out)
    maker = Maker(None if model is None else load(model, device="cpu"), fps)
    samples = read(source, form, maker)
    records = (Record(each.key, each.to_bytes(), len(each.tokens)) for each in samples)
    written = write_shards(out, records, per_shard)
    if not written:
        raise ReadError(f"{source}: there are no samples in it")
    count = sum(len(TokenShard(path)) for path in written)
    typer.echo(clean(f"{count} samples of {form} in {out}"))
