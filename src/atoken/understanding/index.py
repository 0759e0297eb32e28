"""An index of a folder: embeddings in one safetensors file, what they are of in JSON, search by a matrix product."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from ..files import atomic_write
from ..weights.files import read_safetensors

VECTORS, FILES = "vectors.safetensors", "files.json"


@dataclass(frozen=True)
class Entry:
    """One file as it was when it was embedded."""

    path: str
    """Below the indexed folder, with forward slashes."""
    size: int
    modified: int
    """Nanoseconds since the epoch."""


@dataclass(frozen=True)
class Index:
    """Unit vectors fp32 [N, D] of N files below a folder, and the weights that made them."""

    weights: str
    entries: tuple[Entry, ...]
    vectors: Tensor

    def search(self, query: Tensor, count: int) -> list[tuple[Entry, float]]:
        """The ``count`` entries nearest to a unit vector [D], with their cosines, nearest first."""
        scores = self.vectors @ query
        best = scores.topk(min(count, len(self.entries)))
        return [(self.entries[i], score) for i, score in zip(best.indices.tolist(), best.values.tolist(), strict=True)]

    def save(self, folder: Path) -> None:
        """Write both files, each atomically; an end between the two leaves no index, rather than another's names."""
        (folder / FILES).unlink(missing_ok=True)
        with atomic_write(folder / VECTORS) as temporary:
            temporary.write_bytes(safetensors.torch.save({"vectors": self.vectors.contiguous()}))
        with atomic_write(folder / FILES) as temporary:
            values = {"weights": self.weights, "files": [asdict(entry) for entry in self.entries]}
            temporary.write_text(json.dumps(values, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Index | None:
        """The index in ``folder``, or None where there is none. Raises ``ValueError`` for a damaged one."""
        if not (folder / VECTORS).is_file() or not (folder / FILES).is_file():
            return None
        vectors = read_safetensors(folder / VECTORS).get("vectors")
        try:
            values = json.loads((folder / FILES).read_text())
            entries = tuple(Entry(**entry) for entry in values["files"])
            weights = str(values["weights"])
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{folder / FILES} is damaged: remove {folder} and search again") from None
        if vectors is None or vectors.ndim != 2 or len(vectors) != len(entries):
            raise ValueError(f"{folder / VECTORS} does not fit {FILES} beside it: remove {folder} and search again")
        return cls(weights, entries, vectors)


def entry_of(path: Path, root: Path) -> Entry:
    """What the index remembers of a file below ``root``."""
    status = path.stat()
    return Entry(path.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns)


def update(
    known: Index | None,
    root: Path,
    paths: Sequence[Path],
    weights: str,
    embed: Callable[[list[Path]], tuple[list[Path], Tensor]],
) -> Index:
    """The index of ``paths`` below ``root``: vectors of files with the same path, size and time are kept.

    ``embed`` gives vectors [n, D] of those files of a list that could be read. Nothing is kept of other weights, nor
    of files that are gone.
    """
    kept = {}
    if known is not None and known.weights == weights:
        kept = {entry: vector for entry, vector in zip(known.entries, known.vectors, strict=True)}
    entries = {path: entry_of(path, root) for path in paths}
    missing = [path for path in paths if entries[path] not in kept]
    if missing:
        read, vectors = embed(missing)
        kept.update({entries[path]: vector for path, vector in zip(read, vectors, strict=True)})
    present = [entry for entry in entries.values() if entry in kept]
    if not present:
        raise ValueError(f"nothing in {root} could be embedded")
    return Index(weights, tuple(present), torch.stack([kept[entry] for entry in present]))
