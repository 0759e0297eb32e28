"""Files of Gaussians: which module reads and writes which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...core.errors import ReadError
from ...core.files import atomic_write
from ...core.regular import read_regular
from ...media.suffixes import SOG_META
from ..types import Gaussians
from . import compressed_ply, dot_splat, ply, sog, spz

COMPRESSED_PLY = ".compressed.ply"
WRITERS: dict[str, Callable[[Gaussians], bytes]] = {
    ".ply": ply.to_bytes,
    ".splat": dot_splat.to_bytes,
    ".spz": spz.to_bytes,
    ".sog": sog.to_bytes,
}
SPLAT_SUFFIXES = frozenset(WRITERS)
REMEDIES = {
    ".ksplat": "convert it with splat-transform (npx @playcanvas/splat-transform a.ksplat a.ply)",
    ".usdz": "convert it to .glb (Blender opens and exports both), or a splat inside to .ply",
    ".lcc": "convert it with splat-transform (npx @playcanvas/splat-transform a.lcc a.ply)",
}
"""3D files that are known and not read."""


def write_splats(gaussians: Gaussians, path: str | Path) -> None:
    """Write Gaussians in their asset's own frame, atomically: the suffix says how.

    ``.compressed.ply`` is SuperSplat's. All but ``.ply`` round. Raises ``ValueError`` for another suffix or for numbers
    that are not finite, ``OSError`` where the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in WRITERS:
        raise ValueError(f"{path}: Gaussians are written as {', '.join(WRITERS)}")
    compressed = path.name.lower().endswith(COMPRESSED_PLY)
    data = compressed_ply.to_bytes(gaussians) if compressed else WRITERS[suffix](gaussians)
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def read_splats(path: str | Path) -> Gaussians:
    """Gaussians of a ``.ply``, ``.splat``, ``.spz`` or ``.sog`` file, or of an unpacked SOG's ``meta.json``.

    What a file says of colours by direction is left out, with a warning. Raises ``ReadError`` for a file that is
    damaged or of another kind, ``OSError`` where it cannot be opened.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    refuse_unread(path)
    if suffix == ".sog" or path.name == SOG_META:
        return sog.read(path)
    readers = {".ply": ply.read, ".splat": dot_splat.read, ".spz": spz.read}
    if suffix not in readers:
        raise ReadError(f"{path} is no splat file: give {', '.join(WRITERS)}")
    return readers[suffix](read_regular(path), path)


def refuse_unread(path: Path) -> None:
    """Raise ``ReadError`` with the remedy where the suffix is one of ``REMEDIES``."""
    if (remedy := REMEDIES.get(path.suffix.lower())) is not None:
        raise ReadError(f"{path} is {path.suffix.lower()}, which is not read: {remedy}")
