"""Folders of files into WebDataset shards."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.files import atomic_write
from ..media.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from ..media.views.packed import PACKED_SUFFIX

PACKED = frozenset({PACKED_SUFFIX})
"""3D as voxels (media/views/packed.py)."""


@dataclass(frozen=True)
class Packed:
    """What was written."""

    shards: int
    samples: int
    captions: int


PLAN, INDEX = "packing.json", "index.json"
"""Of a run that is not done, and of a finished one: a digest of what it packs, so that the same command continues."""


def pack_folder(
    folder: Path, out: Path, shard_size: int = 256_000_000, seed: int = 0, shards: int | None = None
) -> Packed:
    """Write all pictures, videos and packed voxels below ``folder``, in shuffled order, to ``out/shard-N.tar``.

    Files of the same name with the suffix .txt (the caption), .json (``captions``, ``label``) or .cls (the number of
    a class) go with them. Files go in unchanged, about ``shard_size`` bytes a
    shard, or as many ``shards`` of about one size; names with a leading dot are left out. A shard appears when it is
    complete, and a run that was killed goes on where it stood, to the same bytes; after a finished one only missing
    shards are written. ``index.json`` says how many ``samples`` each holds. Raises ``FileNotFoundError`` for a folder
    without such files and ``ValueError`` where ``out`` has shards of another run already or there are fewer files than
    ``shards``.
    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES | PACKED and path.is_file()
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not files:
        raise FileNotFoundError(f"no pictures, videos or packed voxels in {folder}")
    keys = dict(zip(files, _keys([path.relative_to(folder) for path in files]), strict=True))
    order = [files[i] for i in np.random.default_rng(seed).permutation(len(files))]
    groups = list(_groups(order, shard_size) if shards is None else _equal_groups(order, shards))
    beside = {path: _beside(path) for path in files}
    digest = _begin(out, groups, beside, keys)
    counts: dict[str, int] = {}
    for number, group in enumerate(groups):
        name = f"shard-{number:06d}.tar"
        counts[name] = len(group)
        if (out / name).is_file():
            continue
        with atomic_write(out / name) as temporary, tarfile.open(temporary, "w") as tar:
            for path in group:
                _add(tar, f"{keys[path]}{path.suffix.lower()}", path.read_bytes())
                for other in beside[path]:
                    _add(tar, f"{keys[path]}{other.suffix}", other.read_bytes())
    with atomic_write(out / INDEX) as temporary:
        temporary.write_text(json.dumps({"sha256": digest, "samples": counts}, indent=1) + "\n")
    (out / PLAN).unlink()
    return Packed(len(counts), len(files), sum(path.with_suffix(".txt") in beside[path] for path in files))


def _beside(path: Path) -> list[Path]:
    """The files that say what is to be seen."""
    others = (path.with_suffix(suffix) for suffix in (".txt", ".json", ".cls"))
    return [other for other in others if other.is_file()]


def _begin(out: Path, groups: list[list[Path]], beside: dict[Path, list[Path]], keys: dict[Path, str]) -> str:
    """Write down a digest of what goes into which shard, or see that the run before wrote down the same."""
    digest = hashlib.sha256()
    for path in (path for group in groups for path in (*group, None)):
        files = [] if path is None else [path, *beside[path]]
        facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        digest.update(repr((path and keys[path], facts)).encode("utf-8", "surrogateescape"))
    plan = digest.hexdigest()
    if any(out.glob("shard-*.tar")) and plan not in (_digest_in(out / PLAN), _digest_in(out / INDEX)):
        raise ValueError(f"{out} holds shards already, of other files or another size: give another --out")
    with atomic_write(out / PLAN) as temporary:
        temporary.write_text(json.dumps({"sha256": plan}))
    return plan


def _digest_in(path: Path) -> str | None:
    """The ``sha256`` that the JSON file says, None where it is missing or another's."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found.get("sha256") if isinstance(found, dict) else None


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


def _equal_groups(files: list[Path], count: int) -> Iterator[list[Path]]:
    """``count`` groups of neighbours of about as many bytes. Raises ``ValueError`` for fewer files."""
    if len(files) < count:
        raise ValueError(f"{len(files)} files do not fill {count} shards: take fewer")
    sizes = np.cumsum([path.stat().st_size for path in files])
    start = 0
    for number in range(count):
        end = int(np.searchsorted(sizes, sizes[-1] * (number + 1) / count)) + 1
        end = min(max(end, start + 1), len(files) - (count - 1 - number))
        yield files[start:end]
        start = end


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
