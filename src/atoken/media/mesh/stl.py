"""STL: triangles, binary or ASCII, with the colours that VisCAM and Magics put into them."""

from __future__ import annotations

import re

import numpy as np

from .asset import Piece
from .source import Source, text_of

HEADER, TRIANGLE = 84, 50
"""Bytes of a binary file's header with its count, and of each triangle."""
ROW = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
VERTEX = re.compile(rb"\bvertex\s+(\S+)\s+(\S+)\s+(\S+)", re.IGNORECASE)


def read_stl(source: Source) -> list[Piece]:
    """The triangles of an STL file.

    Binary is told by the size that its count announces, as many binary headers begin with "solid" too; bytes behind
    the last triangle are left out.
    """
    data = source.data
    count = int.from_bytes(data[80:HEADER], "little") if len(data) >= HEADER else 0
    announced = HEADER + count * TRIANGLE
    text = text_of(data)
    if announced != len(data) and re.match(rb"\s*solid", text, re.IGNORECASE) and VERTEX.search(text[:4096]):
        return [_ascii(source, text)]
    if len(data) < HEADER:
        raise source.error("is damaged or not an .stl file (shorter than a header): save or download it again")
    if announced > len(data):
        raise source.error(f"is cut short: {(len(data) - HEADER) // TRIANGLE} of {count} triangles: download it again")
    if not count:  # some writers never fill it in
        count = (len(data) - HEADER) // TRIANGLE
        if not count or (len(data) - HEADER) % TRIANGLE:
            raise source.error("has no faces and no points")
        source.note(f"its count of triangles is 0; the {count} that its size holds are read")
    rows = np.frombuffer(data, ROW, count, HEADER)
    corners = rows["corners"].reshape(-1, 3)
    colours = _colours(data[:80], rows["attribute"])
    return [Piece(corners, _faces(count), colours=None if colours is None else np.repeat(colours, 3, 0))]


def _ascii(source: Source, text: bytes) -> Piece:
    words = [word for match in VERTEX.finditer(text) for word in match.groups()]
    try:
        corners = np.fromiter(map(float, words), np.float64).reshape(-1, 3)
    except ValueError:
        raise source.error("has a vertex that is not of numbers: export it again") from None
    if len(corners) % 3:
        raise source.error("is cut short: its last triangle lacks a corner: download it again")
    return Piece(corners, _faces(len(corners) // 3))


def _faces(count: int) -> np.ndarray:
    return np.arange(3 * count, dtype=np.int32).reshape(-1, 3)


def _colours(header: bytes, attribute: np.ndarray) -> np.ndarray | None:
    """Colours uint8 [F, 4] from the attribute of each triangle: five bits a channel and one that says what it is.

    Magics writes COLOR= with the colour of the whole into the header, red lowest, and sets the top bit where a triangle
    has that colour. VisCAM sets the top bit where a triangle has its own, blue lowest. Other values are none.
    """
    channels = np.stack([attribute & 31, (attribute >> 5) & 31, (attribute >> 10) & 31], 1)
    top = attribute >= 0x8000
    colours = np.full((len(attribute), 4), 255, np.uint8)
    own = (channels.astype(np.uint16) * 255 + 15) // 31
    whole = header.find(b"COLOR=")
    if whole >= 0 and len(header) >= whole + 10:
        colours[:, :3] = np.frombuffer(header, np.uint8, 3, whole + 6)
        colours[~top, :3] = own[~top]
        return colours
    if not top.any() or (attribute[~top] != 0).any():
        return None
    colours[top, :3] = own[top][:, ::-1]
    return colours
