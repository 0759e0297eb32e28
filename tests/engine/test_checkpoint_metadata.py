"""Attacks by way of a checkpoint's ``.metadata``, which is a pickle, and of the files of its tensors."""

import io
import pathlib
import pickle
import zipfile
from dataclasses import replace

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import metadata as records
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import BytesStorageMetadata

from atoken.core.errors import ReadError
from atoken.engine.checkpoint_metadata import Reader, read_metadata
from refusals import refused

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
_DCP = "torch.distributed.checkpoint"


@pytest.fixture
def saved(tmp_path):
    """Some tensors as DCP writes them, with what it says of them."""
    tensors = {"a": torch.arange(6.0).view(2, 3), "deep/b": torch.zeros((), dtype=torch.bfloat16)}
    dcp.save(tensors, checkpoint_id=tmp_path, no_dist=True)
    return tmp_path, tensors


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def named(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def setting(module: str, name: str, attribute: str, value: bytes) -> bytes:
    """A pickle that sets an attribute of what it names, by BUILD with the state (None, {attribute: value})."""
    return b"\x80\x04" + named(module, name) + b"N}" + text(attribute) + value + b"s\x86b."


def test_what_dcp_writes_is_read(saved):
    folder, tensors = saved
    room = {name: torch.empty_like(tensor) for name, tensor in tensors.items()}
    dcp.load(room, storage_reader=Reader(folder, read_metadata(folder)), no_dist=True)
    assert all(torch.equal(room[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    ("module", "name", "attribute", "owner"),
    [
        ("pathlib", "PosixPath", "name", pathlib.PosixPath),
        (f"{_DCP}.metadata", "Metadata", "storage_data", records.Metadata),
        (f"{_DCP}.metadata", "StorageMeta", "__init__", records.StorageMeta),
        (f"{_DCP}.filesystem", "_StorageInfo", "__getstate__", _StorageInfo),
        ("torch.serialization", "_get_layout", "cache", torch.serialization._get_layout),
        ("torch", "Size", "__len__", torch.Size),
        ("torch", "float32", "mark", torch.float32),
    ],
)
def test_no_attribute_of_a_class_or_function_is_set(saved, module, name, attribute, owner):
    """Another name of PosixPath would lead files out of their folders, for the rest of the process."""
    folder, _ = saved
    before = getattr(owner, attribute, None)
    (folder / ".metadata").write_bytes(setting(module, name, attribute, text("../../elsewhere")))
    try:
        with refused(".metadata", error=ReadError):
            read_metadata(folder)
        assert getattr(owner, attribute, None) is before
    finally:
        if getattr(owner, attribute, None) is not before:
            setattr(owner, attribute, before)


@pytest.mark.parametrize("name", ["os.system", "Metadata.__init__", "_get_layout.cache", "nn", "Tensor", "load"])
def test_no_other_name_is_known(saved, name):
    folder, _ = saved
    for module in ("torch", f"{_DCP}.metadata", "torch.serialization", "builtins"):
        (folder / ".metadata").write_bytes(b"\x80\x04" + named(module, name) + b".")
        with refused(".metadata", name, error=ReadError):
            read_metadata(folder)


def test_an_instruction_that_takes_memory_for_nothing_is_refused(saved):
    """LONG_BINPUT makes room for as many memories as it likes: 2 ** 28 would be 4 GB."""
    folder, _ = saved
    (folder / ".metadata").write_bytes(b"\x80\x04Nr\x00\x00\x00\x10.")
    with refused(".metadata", "LONG_BINPUT", error=ReadError):
        read_metadata(folder)


def wrong_place(**change):
    def edit(found):
        key, info = next(iter(found.storage_data.items()))
        found.storage_data[key] = replace(info, **change)

    return edit


def bytes_entry(found):
    found.state_dict_metadata["a"] = BytesStorageMetadata()


def odd(**change):
    def edit(found):
        for name, value in change.items():
            setattr(found, name, value)

    return edit


def many_chunks(found):
    """One list in 1,000 entries: as many chunks as their product, out of a file of their sum."""
    chunks = found.state_dict_metadata["a"].chunks * 1000
    for number in range(1000):
        found.state_dict_metadata[f"a{number}"] = replace(found.state_dict_metadata["a"], chunks=chunks)


def many_dimensions(found):
    found.state_dict_metadata["a"].size = torch.Size([1] * 100)


EDITS = {
    "leads out": (wrong_place(relative_path="../__0_0.distcp"), "../__0_0.distcp"),
    "is absolute": (wrong_place(relative_path="/etc/passwd"), "/etc/passwd"),
    "is a device": (wrong_place(relative_path="device"), "device"),
    "is missing": (wrong_place(relative_path="gone"), "gone"),
    "is transformed": (wrong_place(transform_descriptors=["stream.zstd"]), "stored as it is"),
    "begins before the file": (wrong_place(offset=-5), "outside of its file"),
    "ends behind the file": (wrong_place(length=2**60), "outside of its file"),
    "begins nowhere": (wrong_place(offset="5"), "numbers"),
    "is bytes": (bytes_entry, "no tensor"),
    "is nothing": (odd(storage_data=None), "places"),
    "has one list of chunks for many": (many_chunks, "more chunks"),
    "has many dimensions": (many_dimensions, "dimensions"),
    "is no table": (odd(state_dict_metadata=[1]), "tensors"),
}


@pytest.mark.parametrize("what", EDITS)
def test_metadata_that_dcp_would_not_write_is_refused(saved, what):
    folder, _ = saved
    (folder / "device").symlink_to("/dev/null")
    edit, said = EDITS[what]
    found = read_metadata(folder)
    edit(found)
    (folder / ".metadata").write_bytes(pickle.dumps(found))
    with refused(said, error=(ReadError, FileNotFoundError)):
        read_metadata(folder)


def test_a_compressed_tensor_is_refused_before_it_is_unpacked(saved):
    folder, _ = saved
    stream = io.BytesIO()
    torch.save(torch.zeros(2, 3), stream)
    bomb = io.BytesIO()
    with zipfile.ZipFile(stream) as whole, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    found = read_metadata(folder)
    for key, info in found.storage_data.items():
        found.storage_data[key] = replace(info, relative_path="bomb", offset=0, length=len(bomb.getvalue()))
    (folder / "bomb").write_bytes(bomb.getvalue())
    with pytest.raises(CheckpointException, match="compressed"):
        dcp.load({"a": torch.empty(2, 3)}, storage_reader=Reader(folder, found), no_dist=True)
