"""Exported files as token samples again, and InternLumina-U2's token files as Tokens of a model."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core.errors import ReadError, reading
from ..core.regular import check_regular, open_regular, read_regular
from ..core.text import shortened
from ..tokens.made import Model
from ..tokens.samples import TokenSample, as_key
from ..tokens.tokens import Tokens
from ..weights.files import refuse_compressed
from .samples import sample_of
from .tables import read_table

INDEX = "samples.jsonl"
TOKEN_FILES = (".pt", ".pkl")
END = bytes(1024)
"""What a tar ends with."""


class Maker(NamedTuple):
    """What token files of others do not say."""

    model: Model | None = None
    """Whose tokens they are."""
    fps: float | None = None
    """Frames a second of clips."""


def read(source: Path, form: str, maker: Maker) -> Iterator[TokenSample]:
    """The samples of a folder or file of format ``form``, as ``export`` wrote it.

    Raises ``ValueError`` for another format, ``FileNotFoundError``, and ``ReadError`` that names the file.
    """
    if form not in FORMATS:
        raise ValueError(f"--format is {form!r}: give one of {', '.join(FORMATS)}")
    if not source.exists():
        raise FileNotFoundError(f"{source}: no such file or folder")
    return FORMATS[form](source, maker)


def _numpy(folder: Path, maker: Maker) -> Iterator[TokenSample]:
    arrays = {}
    for name in ("values", "coords", "starts"):
        path = folder / f"{name}.npy"
        check_regular(path)
        with reading(path):
            arrays[name] = np.load(path, mmap_mode="r", allow_pickle=False)
    lines, starts = list(_index(folder / INDEX)), arrays["starts"]
    ends = [0, *(len(arrays[name]) if arrays[name].ndim == 2 else -1 for name in ("values", "coords"))]
    whole = starts.ndim == 1 and starts.dtype.kind in "iu" and len(starts) == len(lines) + 1
    if not whole or [starts[0], starts[-1], starts[-1]] != ends or bool((np.diff(starts.astype(np.int64)) < 1).any()):
        raise ReadError(f"{folder}: {INDEX}, starts, values and coords are of different numbers of samples or tokens")
    for number, facts in enumerate(lines):
        part = slice(starts[number], starts[number + 1])
        with _naming(folder / INDEX):
            yield sample_of(facts, arrays["values"][part].copy(), arrays["coords"][part])


def _webdataset(folder: Path, maker: Maker) -> Iterator[TokenSample]:
    paths = [folder] if folder.is_file() else sorted(folder.glob("*.tar"))
    if not paths:
        raise FileNotFoundError(f"no tars at {folder}")
    for path in paths:
        with open_regular(path) as file, reading(path):
            file.seek(max(0, file.seek(0, os.SEEK_END) - len(END)))
            if file.read() != END:
                raise ReadError(f"{path} is cut off: it does not end as a tar does")
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                yield from _samples_of(tar)


def _samples_of(tar: tarfile.TarFile) -> Iterator[TokenSample]:
    parts: dict[str, bytes] = {}
    for member in tar:
        suffix = member.name.rpartition("/")[2].partition(".")[2]
        content = tar.extractfile(member) if suffix in ("npy", "coords.npy", "json") else None
        if content is not None:
            parts[suffix] = content.read()
        if len(parts) == 3:  # the order of export: values, coords, facts
            values, coords = (np.load(io.BytesIO(parts[name]), allow_pickle=False) for name in ("npy", "coords.npy"))
            yield sample_of(json.loads(parts["json"]), values, coords)
            parts = {}


def _table(source: Path, maker: Maker) -> Iterator[TokenSample]:
    found = [source] if source.is_file() else [*source.glob("tokens.parquet"), *source.glob("tokens.arrow")]
    if not found:
        raise FileNotFoundError(f"{source} has neither tokens.parquet nor tokens.arrow")
    check_regular(found[0])
    with _naming(found[0]):
        yield from read_table(found[0])


def _internlumina(source: Path, maker: Maker) -> Iterator[TokenSample]:
    """Our own files by what ``samples.jsonl`` says; those of others by ``maker``, with their names as keys."""
    folder = source if source.is_dir() else source.parent
    known = {facts.get("file"): facts for facts in _index(folder / INDEX)} if (folder / INDEX).is_file() else {}
    paths = [source] if source.is_file() else sorted(path for path in folder.rglob("*") if path.suffix in TOKEN_FILES)
    if not paths:
        raise FileNotFoundError(f"no token files ({', '.join(TOKEN_FILES)}) at {source}")
    for path in paths:
        table = _token_table(path)
        facts = known.get(path.name) if path.parent == folder else None
        with _naming(path):
            indices = _matrix(table, "indices", (8,))
            coords = _matrix(table, "coords", (3, 4, 5) if facts is None else (5,))
            if len(indices) != len(coords) or indices.min() < 0 or indices.max() > 4095 or coords.min() < 0:
                raise ValueError("its indices are not in 0 ... 4095, or its coords are negative or of another number")
            if facts is not None:
                places = coords[:, 1:] - [int(facts.get("modality") == "3d"), 0, 0, 0]
                yield sample_of(facts, indices.astype(np.uint16), places)
            else:
                key = as_key(path.relative_to(folder).with_suffix("").as_posix())
                yield TokenSample(key=key, tokens=_made(indices, coords, table, maker))


def _made(indices: np.ndarray, coords: np.ndarray, table: Mapping[str, Any], maker: Maker) -> Tokens:
    """Tokens of a file of InternLumina-U2's own: rows of clips and voxels in our order, whatever theirs."""
    if maker.model is None:
        raise ValueError("it does not say whose tokens it has: give --model")
    voxels = coords.shape[1] == 3 or (coords.shape[1] == 5 and (bool(coords[:, 4].any()) or coords[:, 1].min() == 1))
    places = coords[:, -3:] if voxels else coords[:, 1:4]
    if voxels:
        order = np.lexsort(places.T[::-1])
        return Tokens.from_indices(indices[order], model=maker.model, coords=places[order], grid=(48, 48, 48))
    order = np.lexsort(places.T[::-1])
    grid = tuple(int(side) + 1 for side in places.max(0))
    dense = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), -1).reshape(-1, 3)
    if not np.array_equal(places[order], dense):
        raise ValueError(f"its {len(places)} coords do not fill the grid {grid}")
    clip = grid[0] > 1 or ("image_width" not in table and maker.fps is not None)
    if clip and maker.fps is None:
        raise ValueError("it is a clip, and does not say its times: give --fps")
    shape = grid if clip else grid[1:]
    return Tokens.from_indices(indices[order], model=maker.model, grid=shape, fps=maker.fps if clip else None)


def _token_table(path: Path) -> Mapping[str, Any]:
    """A dict of plain tensors and lists that ``torch.save`` wrote; code in it is never run."""
    with reading(path, "save it with torch.save as a dict of tensors"), open_regular(path) as file:
        refuse_compressed(file, path)
        file.seek(0)
        table = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(table, dict):
        raise ReadError(f"{path} is no token file: it holds a {type(table).__name__}, not a dict")
    return table


def _matrix(table: Mapping[str, Any], name: str, widths: tuple[int, ...]) -> np.ndarray:
    if name not in table:
        raise ValueError(f"it has no {name}")
    found = table[name]
    array = found.numpy() if isinstance(found, Tensor) else np.asarray(found)
    if array.ndim != 2 or array.shape[1] not in widths or array.dtype.kind not in "iu" or len(array) == 0:
        raise ValueError(f"its {name} are {array.dtype} {list(array.shape)}, not integers [N, {widths[-1]}]")
    return array.astype(np.int64)


def _index(path: Path) -> Iterator[dict[str, Any]]:
    with reading(path):
        lines = [json.loads(line) for line in read_regular(path).splitlines()]
    for line in lines:
        if not isinstance(line, dict):
            raise ReadError(f"{path}: {shortened(line)} is no table of facts")
        yield line


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put a file's name in front of a ``ValueError`` that does not have it."""
    try:
        yield
    except ReadError:
        raise
    except ValueError as error:
        raise ReadError(f"{path}: {error}") from None


FORMATS: dict[str, Callable[[Path, Maker], Iterator[TokenSample]]] = {
    "internlumina": _internlumina,
    "numpy": _numpy,
    "webdataset": _webdataset,
    "parquet": _table,
    "arrow": _table,
}
