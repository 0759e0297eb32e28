"""Folders of files into WebDataset shards."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..files import atomic_write
from ..media.image import IMAGE_SUFFIXES
from ..media.kinds import VIDEO_SUFFIXES
from ..media.packed import PACKED_SUFFIX

PACKED = frozenset({PACKED_SUFFIX})
"""3D as voxels (media/packed.py)."""


@dataclass(frozen=True)
class Packed:
    """What was written."""

    shards: int
    samples: int
    captions: int


def pack_folder(folder: Path, out: Path, shard_size: int = 256_000_000, seed: int = 0) -> Packed:
    """Write all pictures, videos and packed voxels below ``folder``, in shuffled order, to ``out/shard-N.tar``.

    A file of the same name with the suffix .txt is the caption. Files go in unchanged, about ``shard_size`` bytes a
    shard; names with a leading dot are left out. A shard appears when it is complete. ``index.json`` says how many
    samples each holds. Raises ``FileNotFoundError`` for a folder without such files and ``ValueError`` where ``out``
    has shards already.
    """
    if any(out.glob("shard-*.tar")):
        raise ValueError(f"{out} holds shards already: give another --out")
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES | PACKED and path.is_file()
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not files:
        raise FileNotFoundError(f"no pictures, videos or packed voxels in {folder}")
    keys = dict(zip(files, _keys([path.relative_to(folder) for path in files]), strict=True))
    order = np.random.default_rng(seed).permutation(len(files))
    counts: dict[str, int] = {}
    captions = 0
    for number, group in enumerate(_groups([files[i] for i in order], shard_size)):
        name = f"shard-{number:06d}.tar"
        with atomic_write(out / name) as temporary, tarfile.open(temporary, "w") as tar:
            for path in group:
                caption = path.with_suffix(".txt")
                _add(tar, f"{keys[path]}{path.suffix.lower()}", path.read_bytes())
                if caption.is_file():
                    _add(tar, f"{keys[path]}.txt", caption.read_bytes())
                    captions += 1
        counts[name] = len(group)
    with atomic_write(out / "index.json") as temporary:
        temporary.write_text(json.dumps(counts, indent=1) + "\n")
    return Packed(len(counts), len(files), captions)


def _keys(paths: Sequence[Path]) -> list[str]:
    """A key without dots for each sample: its name, with a number where several files share one, as a.jpg and a.png."""
    names = [path.with_suffix("").as_posix().replace(".", "_") for path in paths]
    own, keys = set(names), dict[str, None]()
    for name in names:
        key, number = name, 0
        while key in keys or (number and key in own):
            number += 1
            key = f"{name}-{number}"
        keys[key] = None
    return list(keys)


def _groups(files: list[Path], size: int) -> Iterator[list[Path]]:
    """Neighbouring files of about ``size`` bytes together."""
    group: list[Path] = []
    used = 0
    for path in files:
        if group and used + path.stat().st_size > size:
            yield group
            group, used = [], 0
        group.append(path)
        used += path.stat().st_size
    yield group


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
