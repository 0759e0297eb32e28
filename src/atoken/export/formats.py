"""The formats by name, and those that tokens cannot be written in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..core.files import atomic_folder
from ..tokens.shards import TokenShards
from . import codes, latents, moments, plain, tables

FORMATS: dict[str, Callable[[TokenShards, Path], int]] = {
    "lightningdit": latents.lightningdit,
    "gae": latents.lightningdit,
    "jlt": latents.jlt,
    "mar": moments.mar,
    "tokenbridge": moments.mar,
    "repa": moments.repa,
    "sra": moments.repa,
    "sr-dit": moments.sr_dit,
    "rae": moments.rae,
    "llamagen": codes.llamagen,
    "unitok": codes.llamagen,
    "rar": codes.rar,
    "internlumina": codes.internlumina,
    "trellis": plain.trellis,
    "webdataset": plain.webdataset,
    "numpy": plain.numpy,
    "parquet": tables.parquet,
    "arrow": tables.arrow,
}
REFUSED = {"repa-e": "reads the pictures themselves from HDF5 files, and shards do not hold them; repa has the moments"}
"""Why not, by name."""


def export(shards: TokenShards, name: str, out: Path) -> int:
    """Write ``shards`` as format ``name`` to the new folder ``out``, all or nothing; returns the number of samples.

    Raises ``ValueError`` for another name and samples that the format does not hold, and ``FileExistsError`` for an
    ``out`` that is there.
    """
    if name in REFUSED:
        raise ValueError(f"--format {name} cannot be: it {REFUSED[name]}")
    if name not in FORMATS:
        raise ValueError(f"--format is {name!r}: give one of {', '.join(FORMATS)}")
    with atomic_folder(out) as temporary:
        return FORMATS[name](shards, temporary)
