"""What a checkpoint's folder holds besides tensors: progress under a checksum of every byte, and metadata that is read
without running anything.

``torch.distributed.checkpoint`` (DCP) keeps its metadata as a pickle and loads some entries with ``torch.load`` as it
comes: both can run code. Here the pickle is read by an unpickler that knows DCP's own record classes alone, and every
entry must be a tensor, which DCP reads with ``weights_only=True``.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata

from ..core.errors import ReadError, reading

PROGRESS, METADATA = "progress.json", ".metadata"
KEYS = frozenset({"step", "skipped", "cursors", "model"})
"""Of ``progress.json``; those written today also have ``files``, sha256 by name, and ``sha256``, of all the rest."""
REMEDY = "delete its folder"

_DCP = "torch.distributed.checkpoint"
_ADMITTED = {
    f"{_DCP}.metadata": {
        *("Metadata", "MetadataIndex", "StorageMeta", "ChunkStorageMetadata"),
        *("TensorProperties", "TensorStorageMetadata", "BytesStorageMetadata", "_MEM_FORMAT_ENCODING"),
    },
    f"{_DCP}.filesystem": {"_StorageInfo"},
    "torch": {"Size"},
    "torch.serialization": {"_get_layout"},
    "pathlib": {"PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"},
}
"""What DCP's metadata is made of, by module; none of it does anything but hold values."""


def sealed(facts: dict[str, Any]) -> str:
    """``facts`` as JSON that ends with the sha256 of the rest."""
    body = json.dumps(facts)
    return f'{body[:-1]}, "sha256": "{hashlib.sha256(body.encode()).hexdigest()}"}}'


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """sha256 of files in ``folder`` by name."""
    found = {}
    for name in names:
        digest = hashlib.sha256()
        with (folder / name).open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
        found[name] = digest.hexdigest()
    return found


def read_progress(folder: Path) -> dict[str, Any]:
    """The facts of ``progress.json``, with ``files`` empty for a checkpoint of before there were checksums.

    Raises ``ReadError`` where it is missing, damaged, of another step than the folder's name says, or has other keys.
    """
    path = folder / PROGRESS
    if not path.is_file():
        raise ReadError(f"{folder} has no {PROGRESS}: {REMEDY}")
    with reading(path, REMEDY):
        text = path.read_text(encoding="utf-8")
        facts = json.loads(text)
        keys = set(facts)
    if "sha256" in keys:
        del facts["sha256"]
        if sealed(facts) != text:
            raise ReadError(f"{path} is damaged (its checksum does not fit): {REMEDY}")
        if "files" not in keys:
            raise ReadError(f"{path} lacks the key 'files': {REMEDY}")
        keys -= {"sha256", "files"}
    if keys != KEYS:
        odd = sorted(keys ^ KEYS)[0]
        raise ReadError(f"{path} {'lacks the' if odd in KEYS else 'has an unknown'} key {odd[:40]!r}: {REMEDY}")
    _check_progress(path, facts)
    return {"files": {}, **facts}


def _check_progress(path: Path, facts: dict[str, Any]) -> None:
    if type(facts["step"]) is not int or facts["step"] != step_of(path.parent):
        raise ReadError(f"{path} says step {str(facts['step'])[:40]!r} in a folder of another step: {REMEDY}")
    if type(facts["skipped"]) is not int or not 0 <= facts["skipped"] <= facts["step"]:
        raise ReadError(f"{path} says skipped {str(facts['skipped'])[:40]!r}, which cannot be: {REMEDY}")
    cursors = facts["cursors"]
    if not isinstance(cursors, list) or not cursors or not all(isinstance(each, dict) for each in cursors):
        raise ReadError(f"{path} has no cursors, a table for each rank: {REMEDY}")
    files = facts.get("files", {})
    if not isinstance(files, dict) or not all(isinstance(digest, str) for digest in files.values()):
        raise ReadError(f"{path} has no files, each with its sha256: {REMEDY}")


def step_of(folder: Path) -> int | None:
    """N of a folder ``step-N``, None for another name."""
    head, _, number = folder.name.partition("-")
    return int(number) if head == "step" and number.isdecimal() and number.isascii() else None


def check_files(folder: Path, expected: dict[str, str]) -> None:
    """Raises ``ReadError`` for a file that is missing or not the one whose sha256 is expected."""
    for name, digest in expected.items():
        if Path(name).name != name or not (folder / name).is_file():
            raise ReadError(f"{folder} lacks the file {name[:80]!r}: {REMEDY}")
        if digests(folder, [name])[name] != digest:
            raise ReadError(f"{folder / name} is damaged (its checksum does not fit): {REMEDY}")


def read_metadata(folder: Path) -> Metadata:
    """DCP's metadata, of tensors alone, that lie in files of this folder. Raises ``ReadError``."""
    path = folder / METADATA
    with reading(path, REMEDY):
        found = _Records(io.BytesIO(path.read_bytes())).load()
        if not isinstance(found, Metadata):
            raise ReadError(f"{path} holds no metadata of a checkpoint: {REMEDY}")
        for name, entry in found.state_dict_metadata.items():
            # DCP would unpickle an entry of bytes with all that it asks for.
            if not isinstance(entry, TensorStorageMetadata):
                raise ReadError(f"{path} says that {str(name)[:80]!r} is no tensor: {REMEDY}")
        for info in found.storage_data.values():
            if Path(info.relative_path).name != info.relative_path:
                raise ReadError(f"{path} leads out of its folder, to {info.relative_path[:80]!r}: {REMEDY}")
    found.storage_meta = StorageMeta()
    return found


class _Records(pickle.Unpickler):
    """Knows the records of DCP's metadata, and nothing that does anything."""

    def find_class(self, module: str, name: str) -> Any:
        """The class or dtype of that name. Raises ``UnpicklingError`` for every other one."""
        if name in _ADMITTED.get(module, ()):
            return super().find_class(module, name)
        if module == "torch" and isinstance(dtype := getattr(torch, name, None), torch.dtype):
            return dtype
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no checkpoint needs")


class Reader(FileSystemReader):
    """DCP's reader with metadata that was checked."""

    def __init__(self, folder: Path, metadata: Metadata) -> None:
        super().__init__(folder)
        self.metadata = metadata

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        """That which was given."""
        return self.metadata
