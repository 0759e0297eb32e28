"""An index of a folder: embeddings and what they are of in one file, search by a matrix product."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import safetensors.numpy

from ..core.errors import ReadError, reading
from ..core.files import atomic_write
from ..core.regular import read_regular

VECTORS = "vectors.safetensors"


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
    """Unit vectors fp32 [N, D] of N files below a folder, and what made them."""

    weights: str
    """Identity of the model."""
    entries: tuple[Entry, ...]
    vectors: np.ndarray
    words: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    """The best cosine of each of ``chance.WORDS`` with any file, fp32 [M]; empty until a text was looked for."""

    def search(self, query: np.ndarray, count: int) -> list[tuple[Entry, float]]:
        """The ``count`` entries nearest to a unit vector [D], with their cosines, nearest first."""
        scores = self.vectors @ query
        return [(self.entries[i], float(scores[i])) for i in np.argsort(-scores, kind="stable")[:count]]

    def save(self, folder: Path) -> None:
        """Write one file atomically: who reads meanwhile, or after an interruption, sees the old or the new index.

        The names are JSON in a tensor of bytes: a safetensors header holds no more than 100 MB.
        """
        values = {"weights": self.weights, "files": [asdict(entry) for entry in self.entries]}
        names = np.frombuffer(json.dumps(values).encode(), np.uint8)
        with atomic_write(folder / VECTORS) as temporary:
            arrays = {"vectors": np.ascontiguousarray(self.vectors), "words": self.words, "names": names}
            temporary.write_bytes(safetensors.numpy.save(arrays))

    @classmethod
    def load(cls, folder: Path) -> Index | None:
        """The index in ``folder``, or None where there is none. Raises ``ReadError`` for a damaged one."""
        path, remedy = folder / VECTORS, f"remove {folder} and search again"
        if not path.is_file():
            return None
        with reading(path, remedy):
            arrays = safetensors.numpy.load(read_regular(path))
            vectors, values = arrays["vectors"], json.loads(arrays["names"].tobytes())
            entries = tuple(Entry(str(e["path"]), int(e["size"]), int(e["modified"])) for e in values["files"])
            words = arrays["words"]
            if vectors.ndim != 2 or len(vectors) != len(entries) or words.ndim != 1:
                raise ReadError(f"{path} has other vectors than files: {remedy}")
            if any(a.dtype != np.float32 or not np.isfinite(a).all() for a in (vectors, words)):
                raise ReadError(f"{path} holds no finite vectors of 32 bits: {remedy}")
            return cls(str(values["weights"]), entries, vectors, words)


def entry_of(path: Path, root: Path) -> Entry:
    """What the index remembers of a file below ``root``."""
    status = path.stat()
    return Entry(path.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns)


def update(
    known: Index | None,
    root: Path,
    paths: Sequence[Path],
    weights: str,
    embed: Callable[[list[Path]], tuple[list[Path], np.ndarray]],
) -> Index:
    """The index of ``paths`` below ``root``: vectors of files with the same path, size and time are kept.

    It is ``known`` itself where nothing has changed.

    ``embed`` gives vectors [n, D] of those files of a list that could be read, and says why of the others, such as
    links that lead nowhere. Nothing is kept of other weights, nor of files that are gone.
    """
    kept = {}
    if known is not None and known.weights == weights:
        kept = {entry: vector for entry, vector in zip(known.entries, known.vectors, strict=True)}
    entries: dict[Path, Entry] = {}
    for path in paths:
        with suppress(OSError):
            entries[path] = entry_of(path, root)
    missing = [path for path in paths if entries.get(path) not in kept]
    if missing:
        read, vectors = embed(missing)
        kept.update({entries[path]: vector for path, vector in zip(read, vectors, strict=True) if path in entries})
    present = [entry for entry in entries.values() if entry in kept]
    if not present:
        raise ValueError(f"nothing in {root} could be embedded")
    if known is not None and (known.weights, known.entries) == (weights, tuple(present)):
        return known
    return Index(weights, tuple(present), np.stack([kept[entry] for entry in present]))
