"""DCP's metadata, read without running anything, and the tensors that it describes.

``torch.distributed.checkpoint`` (DCP) keeps its metadata as a pickle, whose instructions can call what they name and
set attributes of it, and loads some entries with ``torch.load`` as it comes. Here only the instructions that DCP writes
are followed, names stand for records made for this one file, which hold values and are thrown away, and of these a new
``Metadata`` of tensors is made after each value was checked.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import IO, Any

import torch
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from ..core.errors import ReadError, reading
from ..core.regular import check_regular, read_regular
from ..core.text import shortened
from ..weights.files import refuse_compressed
from .checkpoint_files import METADATA, REMEDY

_DCP = "torch.distributed.checkpoint"
_RECORDS = {
    f"{_DCP}.metadata": {
        *("Metadata", "MetadataIndex", "StorageMeta", "ChunkStorageMetadata", "TensorProperties"),
        *("TensorStorageMetadata", "BytesStorageMetadata", "_MEM_FORMAT_ENCODING"),
    },
    f"{_DCP}.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "pathlib": {"PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"},
}
"""What DCP's metadata names, by module, besides ``torch.Size`` and dtypes."""

_INSTRUCTIONS = {
    *("PROTO", "FRAME", "MEMOIZE", "BINGET", "LONG_BINGET", "STACK_GLOBAL", "NEWOBJ", "REDUCE", "BUILD", "MARK"),
    *("STOP", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"),
    *("SHORT_BINUNICODE", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("EMPTY_DICT", "SETITEM", "SETITEMS"),
}
"""Of pickle; others can make a few bytes take all memory (LONG_BINPUT)."""


MOST_DIMENSIONS = 64
"""Of a tensor in torch."""


class _Record:
    """A value of a pickle: the arguments and the state that it was given."""

    state: Any = None

    def __init__(self, *arguments: Any) -> None:
        self.state = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


def read_metadata(folder: Path) -> Metadata:
    """DCP's metadata, of tensors alone, that lie in files of this folder. Raises ``ReadError``."""
    path = folder / METADATA
    with reading(path, REMEDY):
        return _checked(_Records(read_regular(path)).load(), folder)


class _Records(pickle.Unpickler):
    """Makes ``_Record`` of all that DCP's metadata names, by classes of its own, which no instruction reaches twice."""

    def __init__(self, data: bytes) -> None:
        for instruction, _, _ in pickletools.genops(data):
            if instruction.name not in _INSTRUCTIONS:
                raise pickle.UnpicklingError(f"it has the instruction {instruction.name}, which no checkpoint needs")
        super().__init__(io.BytesIO(data))
        self._made: dict[str, type] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in or dtype of that name. Raises ``UnpicklingError`` for every other one."""
        if name in _RECORDS.get(module, ()):
            return self._made.setdefault(name, type(name, (_Record,), {}))  # what is set on it goes no further
        if (module, name) == ("torch", "Size"):
            return torch.Size
        if module == "torch" and isinstance(dtype := getattr(torch, name, None), torch.dtype):
            return dtype
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no checkpoint needs")


def _checked(found: Any, folder: Path) -> Metadata:
    """What DCP needs of its metadata. Raises ``UnpicklingError`` or ``KeyError`` where it is not as DCP writes it."""
    table = _fields(found, "Metadata")
    entries, places = table["state_dict_metadata"], table["storage_data"]
    _need(type(entries) is dict, "no table of tensors")
    _need(type(places) is dict, "no table of places")
    _need(sum(map(_chunks, entries.values())) <= len(places), "more chunks than places")  # one list may stand in many
    return Metadata(
        {_text(name): _tensor(name, entry, folder) for name, entry in entries.items()},
        storage_data=dict(_place(index, info, folder) for index, info in places.items()),
        storage_meta=StorageMeta(),
        version=table.get("version"),
    )


def _chunks(entry: Any) -> int:
    """How many chunks an entry has, before one of them is looked at."""
    chunks = entry.state.get("chunks") if isinstance(entry, _Record) and type(entry.state) is dict else None
    return len(chunks) if type(chunks) is list else 0


def _tensor(name: str, entry: Any, folder: Path) -> TensorStorageMetadata:
    if type(entry).__name__ != "TensorStorageMetadata":  # DCP would unpickle an entry of bytes with all it asks for
        raise ReadError(f"{folder / METADATA} says that {shortened(name)!r} is no tensor: {REMEDY}")
    fields = _fields(entry, "TensorStorageMetadata")
    properties, chunks = fields["properties"], fields["chunks"]
    _need(type(properties).__name__ == "TensorProperties", "a tensor without properties")
    _need(type(properties.state) is tuple, "odd properties")
    _need(isinstance(properties.state[0], torch.dtype), "a tensor without dtype")
    _need(type(chunks) is list, "a tensor without chunks")
    found = [_fields(chunk, "ChunkStorageMetadata") for chunk in chunks]
    return TensorStorageMetadata(
        TensorProperties(properties.state[0]),
        _size(fields["size"]),
        [ChunkStorageMetadata(_size(chunk["offsets"]), _size(chunk["sizes"])) for chunk in found],
    )


def _place(index: Any, info: Any, folder: Path) -> tuple[MetadataIndex, _StorageInfo]:
    """Where a chunk lies: a part of a regular file in ``folder``."""
    key, place = _fields(index, "MetadataIndex"), _fields(info, "_StorageInfo")
    name, offset, length, hint = _text(place["relative_path"]), place["offset"], place["length"], key.get("index")
    if Path(name).name != name:
        raise ReadError(f"{folder / METADATA} leads out of its folder, to {shortened(name)!r}: {REMEDY}")
    check_regular(folder / name)
    size = (folder / name).stat().st_size
    _need(type(offset) is type(length) is int, "a place without numbers")
    _need(min(offset, length) >= 0 and offset + length <= size, "a place outside of its file")
    _need(not place.get("transform_descriptors"), "a tensor that is not stored as it is")
    _need(hint is None or type(hint) is int, "an odd index")
    where = None if key.get("offset") is None else _size(key["offset"])
    return MetadataIndex(_text(key["fqn"]), where, hint), _StorageInfo(name, offset, length)


def _need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise pickle.UnpicklingError(f"{otherwise}, which no checkpoint has")


def _fields(record: Any, kind: str) -> dict[str, Any]:
    fields = record.state if isinstance(record, _Record) and type(record).__name__ == kind else None
    if type(fields) is not dict:
        raise pickle.UnpicklingError(f"it has no {kind} where every checkpoint has one")
    return fields


def _size(value: Any) -> torch.Size:
    _need(type(value) is torch.Size, "a size that is none")
    _need(len(value) <= MOST_DIMENSIONS, "a size of too many dimensions")
    _need(all(0 <= number < 2**63 for number in value), "a size below zero")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise pickle.UnpicklingError("it has a name that is no text")
    return value


class Reader(FileSystemReader):
    """DCP's reader with metadata that was checked."""

    def __init__(self, folder: Path, metadata: Metadata) -> None:
        super().__init__(folder)
        self.metadata = metadata

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        """That which was given."""
        return self.metadata

    def _slice_file(self, file: IO[bytes], sinfo: _StorageInfo) -> IO[bytes]:
        """The file of one tensor within ``file``, as ``torch.save`` writes it."""
        part = io.BytesIO(super()._slice_file(file, sinfo).read(sinfo.length))
        refuse_compressed(part, sinfo.relative_path)
        part.seek(0)
        return part
