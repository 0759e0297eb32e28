"""Splat files as ``.ply``, in the layout of 3D Gaussian Splatting (see ``table``), which all common viewers read.

One vertex for each Gaussian, its properties all floats. What others write is read too: 2D Gaussians (two scales),
Mip-Splatting (``filter_3D``), colours as red, green, blue (nerfstudio's ns-export) and SuperSplat's compressed files.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.errors import ReadError, reading
from ...core.regular import open_regular
from ...core.text import shortened
from ...media.mesh.colours import top_of
from ..types import SH_C0, Gaussians
from .table import COLOUR, NEEDED, OPACITY, PLACE, ROTATION, SCALE, Columns, columns_of, gaussians_of, logit, sigmoid

NORMAL = ("nx", "ny", "nz")
PROPERTIES = (*PLACE, *NORMAL, *COLOUR, *OPACITY, *SCALE, *ROTATION)
RGB = ("red", "green", "blue")
FILTER = "filter_3D"
COMPRESSED = "packed_position"
MARKS = ("f_dc_0", "scale_0", "rot_0", COMPRESSED)
"""Properties that no point cloud has: a file with any of them is a splat file, whole or not."""
LONGEST_HEADER = 65536

_TYPES = {
    **{name: "i1" for name in ("char", "int8")},
    **{name: "u1" for name in ("uchar", "uint8")},
    **{name: "i2" for name in ("short", "int16")},
    **{name: "u2" for name in ("ushort", "uint16")},
    **{name: "i4" for name in ("int", "int32")},
    **{name: "u4" for name in ("uint", "uint32")},
    **{name: "f4" for name in ("float", "float32")},
    **{name: "f8" for name in ("double", "float64")},
}
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}


@dataclass(frozen=True)
class Element:
    """One element of a PLY header."""

    name: str
    count: int
    fields: dict[str, str]
    """Numpy type of each property, by name; "" for a list."""


@dataclass(frozen=True)
class Header:
    """A PLY header."""

    order: str
    elements: list[Element]
    start: int
    """Where the tables begin."""

    def find(self, name: str) -> Element | None:
        """The element of that name."""
        return next((element for element in self.elements if element.name == name), None)


def to_bytes(gaussians: Gaussians) -> bytes:
    """A binary splat file in the asset's own frame. Raises ``ValueError`` for numbers that are not finite."""
    columns = columns_of(gaussians)
    table = np.zeros((len(gaussians), len(PROPERTIES)), "<f4")
    for index, name in enumerate(PROPERTIES):
        if name in columns:
            table[:, index] = columns[name]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(gaussians)}"]
    header += [*(f"property float {name}" for name in PROPERTIES), "end_header", ""]
    return "\n".join(header).encode() + table.tobytes()


def read(data: bytes, name: object) -> Gaussians:
    """Gaussians of a splat file, text or binary: the exact inverse of ``to_bytes`` up to the transform.

    Colours that depend on the direction and properties of unknown meaning are left out, with a warning. Raises
    ``ReadError`` for a file that is truncated, no splat, or holds NaN.
    """
    from . import compressed_ply  # which is built on this module

    with reading(name):
        header = parse_header(data, name)
        vertex = header.find("vertex")
        if vertex is None:
            raise ReadError(f"{name} is no splat: it has no vertices; save it as one")
        if COMPRESSED in vertex.fields:
            return gaussians_of(compressed_ply.unpacked(data, header, name), name)
        _check_fields(vertex, name)
        columns = tables(data, header, ("vertex",), name)["vertex"]
        _warn_of_the_rest(vertex, header, columns, name)
        return gaussians_of(_completed(columns), name)


def is_splat(path: str | Path) -> bool:
    """Whether the file at ``path`` begins like a splat ``.ply``, as opposed to a mesh or a point cloud."""
    with open_regular(path) as file:
        head = file.read(LONGEST_HEADER)
    try:
        vertex = parse_header(head, path).find("vertex")
    except ReadError:
        return False  # the reader of meshes says what is wrong with it
    return vertex is not None and any(mark in vertex.fields for mark in MARKS)


def parse_header(data: bytes, name: object) -> Header:
    """The header of a PLY file. Raises ``ReadError``."""
    end = data.find(b"end_header", 0, LONGEST_HEADER)
    line_end = data.find(b"\n", end)
    if not data.startswith(b"ply") or end < 0 or line_end < 0:
        raise ReadError(f"{name} is no PLY file" if data else f"{name} is empty (0 bytes)")
    order, elements = "", []
    for line in data[:end].decode("ascii", "replace").splitlines():
        words = line.split()
        if words[:1] == ["format"] and len(words) > 1:
            order = words[1]
        elif words[:1] == ["element"]:
            if len(words) != 3 or not words[2].isascii() or not words[2].isdecimal() or len(words[2]) > 12:
                raise ReadError(f"{name} is a PLY file with a damaged header ({shortened(line)})")
            elements.append(Element(words[1], int(words[2]), {}))
        elif words[:1] == ["property"]:
            kind = "" if words[1:2] == ["list"] else _TYPES.get(words[1]) if len(words) == 3 else None
            if kind is None or not elements or words[-1] in elements[-1].fields:
                raise ReadError(f"{name} is a PLY file with a damaged header ({shortened(line)})")
            elements[-1].fields[words[-1]] = kind
    if order not in _ORDERS or not elements:
        raise ReadError(f"{name} is a PLY file with a damaged header")
    return Header(_ORDERS[order] if order != "ascii" else "ascii", elements, line_end + 1)


def tables(data: bytes, header: Header, wanted: tuple[str, ...], name: object) -> dict[str, np.ndarray]:
    """Structured arrays of the elements ``wanted``. Raises ``ReadError`` where they are not whole."""
    found: dict[str, np.ndarray] = {}
    lines = data[header.start :].decode("ascii", "replace").splitlines() if header.order == "ascii" else []
    at = 0 if header.order == "ascii" else header.start
    for element in header.elements:
        if not set(wanted) - set(found):
            break
        lists = [key for key, kind in element.fields.items() if not kind]
        if lists and (element.name in wanted or header.order != "ascii"):
            raise ReadError(f"{name} is no splat: its element {element.name!r} has the list {lists[0]!r}")
        if header.order == "ascii":
            rows, at = lines[at : at + element.count], at + element.count
            table = _from_text(rows, element, name) if element.name in wanted else None
        else:
            kind = np.dtype([(key, header.order + form) for key, form in element.fields.items()])
            there = max(0, len(data) - at) // max(1, kind.itemsize)
            if there < element.count and kind.itemsize:
                raise ReadError(f"{name} is truncated: {element.count} of {element.name} announced, {there} there")
            table = (
                np.frombuffer(data, kind, element.count, at) if element.count and kind.itemsize else np.zeros(0, kind)
            )
            at += element.count * kind.itemsize
        if table is not None and element.name in wanted:
            found[element.name] = table
    return found


def _from_text(rows: list[str], element: Element, name: object) -> np.ndarray:
    words = [row.split() for row in rows]
    if len(words) < element.count or not all(len(row) == len(element.fields) for row in words):
        raise ReadError(f"{name} is truncated or damaged: {element.count} of {element.name} were announced")
    kind = np.dtype([(key, form) for key, form in element.fields.items()])
    return np.array([tuple(map(float, row)) for row in words], kind)


def _check_fields(vertex: Element, name: object) -> None:
    """Raise ``ReadError`` where a property is missing that no rule replaces."""
    replaced = {SCALE[2], *(COLOUR if all(key in vertex.fields for key in RGB) else ())}
    missing = [key for key in NEEDED if key not in vertex.fields and key not in replaced]
    if missing:
        raise ReadError(f"{name} is no splat that can be read: it has no {missing[0]}; export it as a 3DGS .ply")


def _warn_of_the_rest(vertex: Element, header: Header, columns: np.ndarray, name: object) -> None:
    """Say which of the file's numbers do not count."""
    rest = [key for key in vertex.fields if key.startswith("f_rest_")]
    if any(bool(columns[key].any()) for key in rest):
        warnings.warn(f"{name}: colours are taken without the {len(rest)} numbers of their directions", stacklevel=4)
    used = {*NEEDED, *NORMAL, FILTER, *rest, *(() if COLOUR[0] in vertex.fields else RGB)}
    left = [key for key in vertex.fields if key not in used]
    left += [element.name for element in header.elements if element.name not in ("vertex", "face") and element.count]
    if left:
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        warnings.warn(f"{name}: {shortened(', '.join(left[:5]))}{more} are left out: not of 3DGS", stacklevel=4)


def _completed(table: np.ndarray) -> Columns:
    """The columns ``NEEDED`` from what other writers have in their place."""
    names = table.dtype.names or ()
    columns = {key: table[key].astype(np.float32) for key in NEEDED if key in names}
    if SCALE[2] not in columns:  # 2D Gaussians (Huang et al. 2024) are discs
        columns[SCALE[2]] = np.full(len(table), -np.inf, np.float32)
    for key, colour in zip(COLOUR, RGB, strict=True):
        if key not in columns:  # ns-export with --ply-color-mode rgb: integers of the whole range, 0 ... 1 or 0 ... 255
            kind = table[colour].dtype
            most = np.iinfo(kind).max if kind.kind in "iu" else top_of(np.stack([table[c] for c in RGB], 1))
            columns[key] = ((table[colour] / np.float64(most) - 0.5) / SH_C0).astype(np.float32)
    if FILTER in names:
        _widen(columns, table[FILTER].astype(np.float64))
    return columns


def _widen(columns: dict[str, np.ndarray], width: np.ndarray) -> None:
    """Apply Mip-Splatting's 3D filter (Yu et al. 2024, eq. 7), which its own viewers apply when they draw."""
    squares = np.exp(2 * np.stack([columns[key] for key in SCALE]).astype(np.float64))
    wide = squares + width**2
    share = np.sqrt((squares / np.maximum(wide, 1e-300)).prod(0))
    columns[OPACITY[0]] = logit(sigmoid(columns[OPACITY[0]]) * share).astype(np.float32)
    for key, square in zip(SCALE, wide, strict=True):
        with np.errstate(divide="ignore"):
            columns[key] = (np.log(square) / 2).astype(np.float32)
