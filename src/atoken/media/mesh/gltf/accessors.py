"""Accessors: typed arrays in buffer views, with strides, sparse changes and normalized integers."""

from __future__ import annotations

import numpy as np

from .container import Container
from .fields import Fields

COMPONENTS = {5120: "i1", 5121: "u1", 5122: "i2", 5123: "u2", 5125: "u4", 5126: "f4"}
"""Little-endian types by glTF's numbers."""
SHAPES = {
    "SCALAR": (1, 1),
    "VEC2": (2, 1),
    "VEC3": (3, 1),
    "VEC4": (4, 1),
    "MAT2": (2, 2),
    "MAT3": (3, 3),
    "MAT4": (4, 4),
}
"""Rows and columns."""
ZEROS = 65_536
"""Elements of an accessor without bytes that any file may have; beyond, as many as the file has bytes."""


def read_accessor(container: Container, index: int) -> np.ndarray:
    """Accessor ``index`` as it is stored, [count, rows * columns] of its component type, matrices column by column."""
    fields = container.top.entry("accessors", index)
    count, kind, (rows, columns) = fields.whole("count"), _component(fields), _shape(fields)
    if "bufferView" in fields:
        view = container.top.entry("bufferViews", fields.whole("bufferView"))
        stride = view.whole("byteStride", 0)
        data = container.view(fields.whole("bufferView"))
        values = _strided(fields, data, fields.whole("byteOffset", 0), count, kind, (rows, columns), stride)
    elif count <= max(ZEROS, len(container.source.data)):
        values = np.zeros((count, rows * columns), kind)
    else:
        raise container.source.error(f"is damaged: {fields.where} has {count} elements without bytes; export it again")
    return _sparse(container, fields, values, kind, (rows, columns)) if "sparse" in fields else values


def as_floats(container: Container, index: int, *, normalized: bool | None = None) -> np.ndarray:
    """Accessor ``index`` as float32 [count, k], or float64 for 32-bit integers.

    Normalized integers become 0 ... 1 or -1 ... 1 (glTF 2.0, section 3.11); ``normalized`` overrides the file.
    """
    values = read_accessor(container, index)
    if normalized is None:
        normalized = container.top.entry("accessors", index).values.get("normalized") is True
    if values.dtype.kind == "f":
        return values
    floats = values.astype(np.float64 if values.dtype.itemsize == 4 else np.float32)
    if normalized:
        floats = np.maximum(floats / np.iinfo(values.dtype).max, -1)
    return floats


def _component(fields: Fields) -> str:
    number = fields.whole("componentType")
    if number not in COMPONENTS:
        raise fields.source.error(f"is damaged: {fields.where} has the component type {number}, none of glTF 2.0")
    return COMPONENTS[number]


def _shape(fields: Fields) -> tuple[int, int]:
    name = fields.text("type")
    if name not in SHAPES:
        raise fields.source.error(f"is damaged: {fields.where} has the type {name[:20]!r}, none of glTF 2.0")
    return SHAPES[name]


def _strided(
    fields: Fields, data: np.ndarray, offset: int, count: int, kind: str, shape: tuple[int, int], stride: int = 0
) -> np.ndarray:
    """Elements [count, rows * columns] from ``data``, whose bounds are checked before anything is allocated."""
    rows, columns = shape
    width = int(kind[1])
    column = rows * width if columns == 1 else -(-rows * width // 4) * 4  # a matrix's columns begin at four bytes
    size = column * (columns - 1) + rows * width
    stride = stride or column * columns
    if count and offset + stride * (count - 1) + size > len(data):
        raise fields.source.error(f"is damaged: {fields.where} reaches beyond its buffer view; export it again")
    if not count:
        return np.zeros((0, rows * columns), kind)
    strided = np.ndarray((count, columns, rows), "<" + kind, data, offset, (stride, column, width))
    return strided.reshape(count, rows * columns).astype(kind)


def _sparse(container: Container, fields: Fields, values: np.ndarray, kind: str, shape: tuple[int, int]) -> np.ndarray:
    sparse = fields.fields("sparse")
    count = sparse.whole("count")
    places, changed = sparse.fields("indices"), sparse.fields("values")
    index_data = container.view(places.whole("bufferView"))
    at = _strided(places, index_data, places.whole("byteOffset", 0), count, _component(places), (1, 1))[:, 0]
    data = container.view(changed.whole("bufferView"))
    new = _strided(changed, data, changed.whole("byteOffset", 0), count, kind, shape)
    if at.dtype.kind not in "u" or (len(at) and at.max() >= len(values)):
        raise fields.source.error(f"is damaged: {sparse.where} changes elements that do not exist; export it again")
    values = values.copy()
    values[at] = new
    return values
