"""Geomview's OFF: vertices with colours and texture coordinates, polygons with colours, text or binary."""

from __future__ import annotations

import re

import numpy as np

from ...core.errors import ReadError
from .asset import Piece
from .colours import bytes_of
from .polygons import triangles_of
from .source import Source, text_of

HEADER = re.compile(rb"(?:\s|#[^\n]*\n)*((?:ST|st|C|c|N|4|n)*)(?:OFF|off)\b[ \t]*(BINARY)?")
"""What each vertex has besides x, y and z, in any order here, and always in one there."""


def read_off(source: Source) -> list[Piece]:
    """The polygons of an OFF file, with the colours of its vertices, or else of its faces."""
    data = text_of(source.data)
    header = HEADER.match(data)
    if header is None and not re.match(rb"\s*(#.*\s*)*\d+\s+\d+", data):
        raise source.error("is damaged or not an .off file (it begins with neither OFF nor counts): download it again")
    has = b"" if header is None else header[1].replace(b"st", b"ST").replace(b"c", b"C")
    rest = data if header is None else data[header.end() :]
    if b"n" in has:  # the number of dimensions follows
        dimensions = re.match(rb"(?:\s|#.*\n)*(\d+)\s", rest)
        if (header is not None and header[2]) or dimensions is None or int(dimensions[1]) != 3:
            raise source.error("is an OFF of n dimensions: export it as OFF of three")
        rest = rest[dimensions.end() :]
    if header is not None and header[2]:
        vertices, counts, corners, tails = _binary(source, rest.partition(b"\n")[2], has)
    else:
        vertices, counts, corners, tails = _text(source, rest, has)
    if len(corners) and not 0 <= corners.min() <= corners.max() < len(vertices):
        raise source.error("has a face that names a vertex that does not exist: export it again")
    points, colours = _vertices(source, vertices, has)
    places, polygons = triangles_of(counts, corners, points)
    faces = corners[places]
    face_colours = None if colours is not None else _face_colours(source, tails)
    if face_colours is not None:  # each face has vertices of its own
        points = points[faces].reshape(-1, 3)
        colours = np.repeat(face_colours[polygons], 3, 0)
        faces = np.arange(len(points)).reshape(-1, 3)
    return [Piece(points, faces, colours=colours)]


_Parts = tuple[np.ndarray, np.ndarray, np.ndarray, list[list[float]]]
"""Numbers of vertices [V, k], corners of each face [P], vertices of all corners [C], numbers behind each face."""


def _text(source: Source, rest: bytes, has: bytes) -> _Parts:
    lines = [words for line in rest.splitlines() if (words := line.partition(b"#")[0].split())]
    try:
        vertex_count, face_count = int(lines[0][0]), int(lines[0][1])
        width = 3 + (b"4" in has) + 3 * (b"N" in has) + 4 * (b"C" in has) + 2 * (b"ST" in has)
        least = width - 4 * (b"C" in has) if len(lines) - 1 == vertex_count + face_count else width - (b"C" in has)
        if min(vertex_count, face_count) < 0:
            raise source.error("has counts below zero: export it again")
        if (
            vertex_count + face_count > len(lines) - 1
            or any(len(words) < least for words in lines[1 : vertex_count + 1])
            or any(int(words[0]) > len(words) - 1 for words in lines[vertex_count + 1 :][:face_count])
        ):
            lines = [lines[0], *_unwrapped(source, lines[1:], vertex_count, face_count, width)]
        shortest = min(map(len, lines[1 : vertex_count + 1]), default=0)
        rows = [[float(word) for word in words[:shortest]] for words in lines[1 : vertex_count + 1]]
        vertices = np.array(rows, np.float64).reshape(vertex_count, shortest)
        faces = lines[vertex_count + 1 : vertex_count + face_count + 1]
        counts = np.fromiter((int(words[0]) for words in faces), np.int64, len(faces))
        if (counts < 0).any():
            raise source.error("has a face of fewer corners than none: export it again")
        corners = np.array([int(word) for words in faces for word in words[1 : int(words[0]) + 1]], np.int64)
        tails = [[float(word) for word in words[int(words[0]) + 1 :]] for words in faces]
    except ReadError:
        raise
    except (ValueError, IndexError, OverflowError):
        raise source.error("has a line that is not of numbers: export it again") from None
    return vertices, counts, corners, tails


def _unwrapped(
    source: Source, lines: list[list[bytes]], vertex_count: int, face_count: int, width: int
) -> list[list[bytes]]:
    """One line for each vertex of ``width`` numbers and each face, where the file has them otherwise: only the end of a
    face's colours is that of a line."""
    words = [word for line in lines for word in line]
    ends = np.repeat(np.cumsum([len(line) for line in lines]), [len(line) for line in lines])
    place = vertex_count * width
    if place + face_count > len(words):
        raise source.error("is cut short: it lacks vertices or faces of its counts: download it again")
    found = [words[at : at + width] for at in range(0, place, width)]
    for _ in range(face_count):
        last = place + int(words[place]) if place < len(words) else len(words)
        if not place <= last < len(words):
            raise source.error("is cut short: it lacks vertices or faces of its counts: download it again")
        found.append(words[place : ends[last]])
        place = int(ends[last])
    return found


def _binary(source: Source, rest: bytes, has: bytes) -> _Parts:
    """Big-endian: three counts, vertices, and faces of integers with colours of floats."""
    words = np.frombuffer(rest[: len(rest) // 4 * 4], ">i4")
    width = 3 + (b"4" in has) + 3 * (b"N" in has) + 4 * (b"C" in has) + 2 * (b"ST" in has)
    short = source.error("is cut short: it lacks vertices or faces of its counts: download it again")
    if len(words) < 3:
        raise short
    vertex_count, face_count = int(words[0]), int(words[1])
    place = 3 + vertex_count * width
    if vertex_count < 0 or face_count < 0 or place + 2 * face_count > len(words):
        raise short
    vertices = words[3:place].view(">f4").reshape(vertex_count, width).astype(np.float64)
    counts, corners, tails = np.empty(face_count, np.int64), [np.zeros(0, np.int64)], []
    for face in range(face_count):
        count = int(words[place]) if place < len(words) else -1
        end = place + 1 + count
        if count < 0 or end >= len(words) or not 0 <= int(words[end]) <= 4 or end + 1 + int(words[end]) > len(words):
            raise short
        counts[face] = count
        corners.append(words[place + 1 : end].astype(np.int64))
        place = end + 1 + int(words[end])
        tails.append(words[end + 1 : place].view(">f4").astype(float).tolist())
    return vertices, counts, np.concatenate(corners), tails


def _vertices(source: Source, numbers: np.ndarray, has: bytes) -> tuple[np.ndarray, np.ndarray | None]:
    """Points [V, 3], and colours uint8 [V, 4]: x y z [w] [normal] [colour] [texture coordinates]."""
    texture, colour, normal, four = (letters in has for letters in (b"ST", b"C", b"N", b"4"))
    if numbers.shape[1] < 3 + four:
        raise source.error("has no faces and no points" if not len(numbers) else "has vertices of fewer than 3 numbers")
    points = numbers[:, :3] / numbers[:, 3:4] if four else numbers[:, :3]
    rest = numbers[:, 3 + four + 3 * normal : numbers.shape[1] - 2 * texture]
    plain = not (texture or colour or normal or four)  # some writers add colours without saying so
    if rest.shape[1] == 3 and plain and rest.min(initial=0) < 0:
        source.note("its three numbers behind each vertex are taken as normals, as some are negative")
        return points, None
    if rest.shape[1] in (3, 4) and (colour or plain):
        return points, _scaled(rest)
    if colour:
        source.note("its vertex colours are not of three or four numbers, so they are left out")
    return points, None


def _face_colours(source: Source, tails: list[list[float]]) -> np.ndarray | None:
    """Colours uint8 [P, 4] of faces; white for those that have none."""
    if any(len(tail) in (1, 2) for tail in tails):
        source.note("faces with a number of a colour map have no colour here")
    coloured = [index for index, tail in enumerate(tails) if len(tail) >= 3]
    if not coloured:
        return None
    colours = np.full((len(tails), 4), 255, np.uint8)
    rgba = np.array([[*tails[index][:3], *(tails[index][3:4] or [np.nan])] for index in coloured])
    colours[coloured, :3] = _scaled(rgba[:, :3])[:, :3]
    return colours


def _scaled(rgba: np.ndarray) -> np.ndarray:
    """0 ... 1 where none is larger, else 0 ... 255."""
    return bytes_of(np.nan_to_num(rgba.astype(np.float64)))
