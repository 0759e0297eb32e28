"""The data of a PLY file, ASCII or binary: a table for each element, with lists of any lengths."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from .source import Source, name_of

TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8", "byte"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("int64", "long", "longlong"), "i8"),
    **dict.fromkeys(("uint64", "ulong", "ulonglong"), "u8"),
    **dict.fromkeys(("half", "float16"), "f2"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
Places = range | np.ndarray
"""Where rows begin: evenly, or anywhere."""
FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass
class Lists:
    """A list property of n rows."""

    counts: np.ndarray
    """int64 [n]."""
    flat: np.ndarray
    """All values, one list behind the other."""


@dataclass
class Property:
    """One property of an element; ``count`` is the type of a list's length, None for a single number."""

    name: str
    kind: str
    count: str | None = None


@dataclass
class Element:
    """One element of the header, and its values once they are read."""

    name: str
    count: int
    properties: list[Property] = field(default_factory=list)
    values: dict[str, np.ndarray | Lists] = field(default_factory=dict)
    """Native numbers [n] of each property, or ``Lists``."""


def read_elements(source: Source) -> tuple[dict[str, Element], list[str]]:
    """All elements by their lower-case names, and the textures that comments name."""
    order, elements, textures, start = _header(source)
    body = memoryview(source.data)[start:]
    if not order:
        numbers = _ascii_numbers(source, elements, bytes(body))
        position = 0
        for element in elements:
            position = _read(source, element, numbers, position, None)
    else:
        position = 0
        data = np.frombuffer(body, np.uint8)
        for element in elements:
            position = _read(source, element, data, position, order)
    return {element.name: element for element in elements}, textures


def _header(source: Source) -> tuple[str, list[Element], list[str], int]:
    """The byte order ('' for ASCII), elements, textures, and where the data begins."""
    data = source.data
    skipped = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    end = data.find(b"end_header", skipped)
    if not data[skipped : skipped + 3].lower() == b"ply" or end < 0:
        raise source.error("is damaged or not a .ply file (it has no header): save or download it again")
    start = end + len(b"end_header")
    start += 2 if data[start : start + 2] == b"\r\n" else 1
    order: str | None = None
    elements: list[Element] = []
    textures: list[str] = []
    for line in data[skipped:end].splitlines()[1:]:
        words = name_of(line).split()
        if len(words) >= 2 and words[0] == "format":
            order = FORMATS.get(words[1].lower())
        elif len(words) >= 3 and words[0] in ("comment", "obj_info") and words[1].rstrip(":=").lower() == "texturefile":
            textures.append(name_of(line.strip()).split(None, 2)[2])
        elif len(words) == 3 and words[0] == "element" and words[2].isdecimal() and len(words[2]) < 19:
            elements.append(Element(words[1].lower(), int(words[2])))
        elif words and words[0] in ("element", "property") and not (elements and _add_property(elements[-1], words)):
            raise source.error(f"has a header line that is none of PLY ({name_of(line)[:60]!r}): export it again")
    if order is None:
        raise source.error("is a .ply of an unknown format: export it as ASCII or binary PLY")
    return order, elements, textures, start


def _add_property(element: Element, words: list[str]) -> bool:
    """Add the property of a header line. False where it is none."""
    if len(words) == 5 and words[1] == "list" and words[2] in TYPES and words[3] in TYPES:
        if TYPES[words[2]][0] == "f":
            return False
        element.properties.append(Property(words[4].lower(), TYPES[words[3]], TYPES[words[2]]))
        return True
    if len(words) == 3 and words[1] in TYPES:
        element.properties.append(Property(words[2].lower(), TYPES[words[1]]))
        return True
    return False


def _ascii_numbers(source: Source, elements: list[Element], body: bytes) -> np.ndarray:
    """All numbers of the data, float64, which holds every integer that a mesh can need."""
    try:
        return np.fromiter(map(float, body.split()), np.float64)
    except ValueError:
        raise source.error("has data that is no number: export it again") from None


def _read(source: Source, element: Element, data: np.ndarray, position: int, order: str | None) -> int:
    """Read ``element`` from ``position`` of the bytes (or, without ``order``, numbers) ``data``, and say where it ends.

    The count of the header is believed as far as the data goes.
    """
    width = {kind: int(kind[1]) if order is not None else 1 for kind in set(TYPES.values())}
    least = sum(width[p.count or p.kind] for p in element.properties)
    if element.count * least > len(data) - position:
        raise source.error(f"is cut short: it lacks data of {element.count} {element.name} elements: download it again")
    if not element.properties:
        return position
    if not element.count:
        return _emptied(element, position)
    starts, counts, end = _rows(source, element, data, position, order, width)
    offset = starts
    for index, prop in enumerate(element.properties):
        if prop.count is None:
            element.values[prop.name] = _gather(data, offset, prop.kind, order)
            offset = _moved(offset, width[prop.kind])
        else:
            length, size = counts[index], width[prop.kind]
            first = _moved(offset, width[prop.count])
            element.values[prop.name] = Lists(length, _gather_lists(data, first, length, prop.kind, order, size))
            offset = (
                _moved(first, length * size) if isinstance(first, np.ndarray) else _moved(first, int(length[0]) * size)
            )
    return end


def _emptied(element: Element, position: int) -> int:
    for prop in element.properties:
        nothing = np.zeros(0, prop.kind)
        element.values[prop.name] = Lists(np.zeros(0, np.int64), nothing) if prop.count else nothing
    return position


def _rows(
    source: Source, element: Element, data: np.ndarray, position: int, order: str | None, width: dict[str, int]
) -> tuple[Places, dict[int, np.ndarray], int]:
    """Where each row begins, the lengths of its lists by the property's number, and where the last row ends."""
    lists = [index for index, prop in enumerate(element.properties) if prop.count is not None]
    if not lists:
        size = sum(width[prop.kind] for prop in element.properties)
        return range(position, position + element.count * size, size), {}, position + element.count * size
    alike = _alike(element, data, position, order, width)
    if alike is not None:
        return alike
    starts = np.empty(element.count, np.int64)
    counts = {index: np.empty(element.count, np.int64) for index in lists}
    steps = [(index, prop.count, width[prop.kind]) for index, prop in enumerate(element.properties)]
    raw = data if order is None else data.tobytes()
    byteorder: Literal["big", "little"] = "big" if order == ">" else "little"
    for row in range(element.count):
        starts[row] = position
        for index, kind, size in steps:
            if kind is None:
                position += size
                continue
            ahead = position + width[kind]
            if ahead > len(data):
                raise source.error(f"is cut short: {row} of {element.count} {element.name} elements are there")
            if order is None:
                length = int(raw[position]) if abs(raw[position]) < 2**62 else -1
            else:
                length = int.from_bytes(raw[position:ahead], byteorder, signed=kind[0] == "i")
            position = ahead + length * size
            if length < 0 or position > len(data):
                raise source.error(f"is cut short: {row} of {element.count} {element.name} elements are there")
            counts[index][row] = length
    return starts, counts, position


def _alike(
    element: Element, data: np.ndarray, position: int, order: str | None, width: dict[str, int]
) -> tuple[Places, dict[int, np.ndarray], int] | None:
    """As ``_rows`` where all rows have lists of the same lengths as the first, which is usual; else None."""
    offset, lengths, places = position, {}, []
    for index, prop in enumerate(element.properties):
        if prop.count is not None:
            if offset + width[prop.count] > len(data):
                return None
            length = float(_gather(data, range(offset, offset + 1), prop.count, order)[0])
            if not 0 <= length <= len(data):
                return None
            lengths[index] = int(length)
            places.append((offset - position, prop.count, int(length)))
            offset += width[prop.count] + int(length) * width[prop.kind]
        else:
            offset += width[prop.kind]
    size = offset - position
    if position + size * element.count > len(data):
        return None
    starts = range(position, position + element.count * size, size)
    for place, kind, length in places:
        if (_gather(data, _moved(starts, place), kind, order) != length).any():
            return None
    return starts, {i: np.full(element.count, n, np.int64) for i, n in lengths.items()}, position + size * element.count


def _moved(places: Places, by: int | np.ndarray) -> Places:
    if isinstance(places, np.ndarray):
        return places + by
    return range(places.start + int(by), places.stop + int(by), places.step)


def _gather(data: np.ndarray, at: Places, kind: str, order: str | None) -> np.ndarray:
    """Numbers of type ``kind`` that begin at ``at``."""
    if order is None:
        values = data[at] if isinstance(at, np.ndarray) else data[at.start : at.stop : at.step]
        return values if kind[0] == "f" else _integers(values, kind)
    if isinstance(at, range):
        return np.ndarray((len(at),), order + kind, data, at.start, (at.step,)).astype(kind)
    raw = np.stack([data[at + byte] for byte in range(int(kind[1]))], 1)
    return np.ascontiguousarray(raw).view(order + kind)[:, 0].astype(kind)


def _gather_lists(
    data: np.ndarray, first: Places, counts: np.ndarray, kind: str, order: str | None, size: int
) -> np.ndarray:
    """The values of lists that begin at ``first``, one list behind the other."""
    if isinstance(first, range):
        columns = [_gather(data, _moved(first, index * size), kind, order) for index in range(int(counts[0]))]
        return np.stack(columns, 1).ravel() if columns else np.zeros(0, kind)
    inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return _gather(data, np.repeat(first, counts) + inside * size, kind, order)


def _integers(values: np.ndarray, kind: str) -> np.ndarray:
    """Numbers of an ASCII file as integers, within the range of their type."""
    info = np.iinfo(kind)
    whole = np.clip(np.nan_to_num(values), float(info.min), float(min(info.max, 2**62)))
    return whole.astype(kind)
