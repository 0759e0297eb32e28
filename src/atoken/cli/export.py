"""``atoken export``: token shards as the files that other people's trainers read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from ..export.formats import export as write
from ..tokens.shards import TokenShards
from .report import clean


def export(shards: Sequence[Path], form: str, out: Path) -> None:
    """Write the samples of ``shards`` to ``out``. Raises ``ValueError`` or ``OSError`` with one sentence."""
    count = write(TokenShards(shards), form, out)
    typer.echo(clean(f"{count} samples for {form} in {out}"))
