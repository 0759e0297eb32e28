"""The formats by name, and those that tokens cannot be written in."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from ..core.files import sync_tree
from ..tokens.shards import TokenShards
from . import codes, latents, plain

FORMATS: dict[str, Callable[[TokenShards, Path], int]] = {
    "lightningdit": latents.lightningdit,
    "gae": latents.lightningdit,
    "jlt": latents.jlt,
    "llamagen": codes.llamagen,
    "unitok": codes.llamagen,
    "rar": codes.rar,
    "internlumina": codes.internlumina,
    "trellis": plain.trellis,
    "webdataset": plain.webdataset,
    "numpy": plain.numpy,
}
MOMENTS = "reads mean and variance of each posterior, and token shards hold one of its values (the mean)"
REFUSED = {"mar": MOMENTS, "tokenbridge": MOMENTS, "repa": MOMENTS, "repa-e": MOMENTS, "sra": MOMENTS}
"""Why not, by name."""


def export(shards: TokenShards, name: str, out: Path) -> int:
    """Write ``shards`` as format ``name`` to the new folder ``out``, all or nothing; returns the number of samples.

    Raises ``ValueError`` for another name, samples that the format does not hold, and an ``out`` that is there.
    """
    if name in REFUSED:
        raise ValueError(f"--format {name} cannot be: it {REFUSED[name]}; lightningdit and numpy hold that")
    if name not in FORMATS:
        raise ValueError(f"--format is {name!r}: give one of {', '.join(FORMATS)}")
    if out.exists():
        raise ValueError(f"{out} is there already: give the name of a new folder")
    temporary = out.absolute().with_name(f".{out.name}-{secrets.token_hex(8)}")
    temporary.mkdir(parents=True)
    try:
        count = FORMATS[name](shards, temporary)
        sync_tree(temporary)
        os.rename(temporary, out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return count
