"""``atoken data``: training data from what people have."""

from __future__ import annotations

from pathlib import Path

import typer

from ..data.pack import pack_folder
from . import options, paths
from .report import clean


def pack_shards(folder: Path, out: Path, shard_size: int, shards: int | None) -> None:
    """Folders of files into shards. Raises ``ValueError`` or ``OSError`` with one sentence."""
    options.check_positive("--shard-size", shard_size)
    if shards is not None:
        options.check_positive("--shards", shards)
    paths.check_folder(out)
    packed = pack_folder(folder, out, shard_size, shards=shards)
    typer.echo(clean(f"{packed.samples} samples, {packed.captions} with captions, {packed.shards} shards in {out}"))
