"""What a run has counted so far, on disk, so that a long one can stop at any item and go on."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..core.files import atomic_write
from ..metrics.codebook import CodebookUse
from ..metrics.frechet import FeatureStatistics

STATE, ITEMS = "state.safetensors", "items.jsonl"
RESULTS, REPORT = "results.json", "report.html"
"""What a finished run leaves."""
ORIGINALS = ""
"""Stands for the originals where methods are named."""


class Progress:
    """Counts of a run in ``folder``: constant memory, and one line of ``items.jsonl`` for each finished item.

    ``save`` makes everything before it durable; what came after the last one is forgotten when a run goes on. Raises
    ``ValueError`` where the folder holds another run than ``fingerprint``.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder, self.fingerprint = folder, fingerprint
        self.done = 0
        """Items that are finished, failed ones included."""
        self.digest = 0
        """Sum of the SHA-256 of the measured originals, modulo 2 ** 256: the same for any order and sharding."""
        self.seconds: dict[str, float] = defaultdict(float)
        self.frechet: dict[tuple[str, str], FeatureStatistics] = {}
        """By metric and method."""
        self.codebooks: dict[str, CodebookUse] = {}
        """By method."""
        self._written = 0
        self._torn = False
        self._load()
        folder.mkdir(parents=True, exist_ok=True)
        self._items = (folder / ITEMS).open("ab")
        self._items.truncate(self._written)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Changes that belong together: where the block is left half done, ``close`` keeps the last saved state."""
        self._torn = True
        yield
        self._torn = False

    def record(self, line: Mapping[str, Any]) -> None:
        """Add a finished item."""
        with self._naming_items():
            self._written += self._items.write(json.dumps(line).encode() + b"\n")
        self.done += 1

    def vectors(self, metric: str, method: str, features: Tensor) -> None:
        """Add feature vectors [n, C]."""
        key = (metric, method)
        if key not in self.frechet:
            self.frechet[key] = FeatureStatistics(features.shape[1])
        self.frechet[key].update(features)

    def codes(self, method: str, codes: Tensor, sizes: Sequence[int]) -> None:
        """Add codes [N, G]."""
        self.codebooks.setdefault(method, CodebookUse(sizes)).update(codes)

    def save(self) -> None:
        """Write the state; a reader sees the old or the new one."""
        with self._naming_items():
            self._items.flush()
        header = {
            "fingerprint": self.fingerprint,
            "done": self.done,
            "digest": f"{self.digest:064x}",
            "written": self._written,
            "seconds": self.seconds,
        }
        tensors: dict[str, Tensor] = {}
        for (metric, method), statistics in self.frechet.items():
            tensors |= {json.dumps(["frechet", metric, method, key]): x for key, x in statistics.tensors().items()}
        for method, use in self.codebooks.items():
            tensors |= {json.dumps(["codes", method, index]): counts for index, counts in enumerate(use.counts)}
        with atomic_write(self.folder / STATE) as temporary:
            temporary.write_bytes(
                safetensors.torch.save({**tensors, "[null]": torch.zeros(1)}, {"run": json.dumps(header)})
            )

    @contextmanager
    def _naming_items(self) -> Iterator[None]:
        """Put the name of the file into errors of writing it, which know none."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.folder / ITEMS)) from error

    def close(self) -> None:
        """Save, unless an interruption left the counts half changed, and let go of the file."""
        if not self._torn:
            self.save()
        self._items.close()

    def _load(self) -> None:
        path = self.folder / STATE
        if not path.is_file():
            return
        try:
            tensors = safetensors.torch.load_file(path)
            with safe_open(path, "pt") as file:
                header = json.loads((file.metadata() or {})["run"])
        except (SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error}): --overwrite begins anew") from None
        if header["fingerprint"] != self.fingerprint:
            raise ValueError(
                f"{self.folder} holds a run with other models, data, metrics or code: "
                "give another --out, or --overwrite to begin anew"
            )
        self.done, self._written = header["done"], header["written"]
        items = self.folder / ITEMS
        if not items.is_file() or items.stat().st_size < self._written:
            raise ValueError(f"{items} has lost lines since {path} was written: --overwrite begins anew")
        self.digest = int(header["digest"], 16)
        self.seconds.update(header["seconds"])
        groups: dict[tuple[str, ...], dict[Any, Tensor]] = defaultdict(dict)
        for key, tensor in tensors.items():
            *names, last = json.loads(key)
            groups[tuple(names)][last] = tensor
        for group, parts in groups.items():
            if group[:1] == ("frechet",):
                self.frechet[group[1], group[2]] = FeatureStatistics.from_tensors(parts)
            elif group[:1] == ("codes",):
                use = self.codebooks[group[1]] = CodebookUse([1] * len(parts))
                use.counts = [parts[index] for index in range(len(parts))]


def make_room(folder: Path, fingerprint: str | None) -> None:
    """Remove what a run left in ``folder``, so that another begins anew.

    The counts of the run ``fingerprint`` itself stay where it was interrupted: it goes on.
    """
    finished = [path for name in (RESULTS, REPORT) if (path := folder / name).exists()]
    try:
        if fingerprint and not finished and (folder / STATE).exists():
            Progress(folder, fingerprint).close()
            return
    except ValueError:
        pass  # another run, or a damaged one
    for path in (*finished, folder / STATE, folder / ITEMS):
        path.unlink(missing_ok=True)


def read_items(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of a finished run, one at a time."""
    with (folder / ITEMS).open(encoding="ascii") as file:
        yield from map(json.loads, file)
