"""Wavefront OBJ: polygons with texture coordinates, vertex colours and material libraries."""

from __future__ import annotations

import re
from itertools import chain

import numpy as np

from .asset import Piece, texture_alone, untextured, white
from .colours import bytes_of, top_of
from .mtl import ObjMaterial, read_library, unquoted
from .polygons import triangles_of
from .source import Source, name_of, text_of

MOST_WORDS = 8
"""Words of a file's name that is not quoted, among the names of several libraries."""


class _Statements:
    """What an OBJ file says, line by line."""

    def __init__(self) -> None:
        self.vertices: list[bytes] = []
        self.coordinates: list[bytes] = []
        self.corners: list[bytes] = []
        """Corners of all faces as ``v``, ``v/vt``, ``v//vn`` or ``v/vt/vn``."""
        self.faces: list[tuple[int, int, int, int]] = []
        """Of each face the number of its corners, of the vertices and texture coordinates before it, and its
        material."""
        self.materials: dict[str, int] = {"": 0}
        self.libraries: list[str] = []
        self.paint: list[bytes] = []
        """ZBrush's colours of the vertices in their order, eight hexadecimal digits each: mask, red, green, blue."""


def read_obj(source: Source) -> list[Piece]:
    """All faces of an OBJ file. Lines, points, curves and normals are left out."""
    said = _statements(source.data)
    if not said.faces:
        raise source.error("has no faces")
    vertices, colours = _vertices(source, said.vertices)
    if said.paint and colours is None:
        colours = _painted(source, said.paint, len(vertices))
    coordinates = _numbers(source, said.coordinates, "vt")[:, :2] if said.coordinates else np.zeros((0, 2))
    if coordinates.shape[1] < 2:  # a texture of one dimension
        coordinates = np.concatenate([coordinates, np.zeros((len(coordinates), 1))], 1)
    table = np.array(said.faces, np.int64)
    counts, owner = table[:, 0], np.repeat(np.arange(len(table)), table[:, 0])
    corner, texel = _indices(source, said.corners)
    corner = np.where(corner < 0, corner + table[owner, 1], corner - 1)
    bare = texel == 0
    texel = np.where(texel < 0, texel + table[owner, 2], texel - 1)
    if (
        corner.min(initial=0) < 0
        or texel[~bare].min(initial=0) < 0
        or corner.max(initial=-1) >= len(vertices)
        or texel.max(initial=-1) >= len(coordinates)
    ):
        raise source.error("has a face that names a vertex that does not exist: export it again")
    place, polygon = triangles_of(counts, corner, vertices)
    materials = _materials(source, said)
    uv = np.zeros((*place.shape, 2))
    if len(coordinates):
        uv = np.where(bare[place][..., None], 0, coordinates[texel[place]])
        for number, item in enumerate(materials):
            of_it = table[polygon, 3] == number
            uv[of_it] = uv[of_it] * item.scale + item.offset
    piece = Piece(vertices, corner[place], uv, colours, [item.material for item in materials], table[polygon, 3])
    return texture_alone(source, untextured(source, piece, bare[place].any(1)))


def libraries_of(source: Source) -> list[str]:
    """The material libraries that the file names."""
    lines = re.findall(rb"^[ \t]*mtllib[ \t]+(.+)$", text_of(source.data), re.IGNORECASE | re.MULTILINE)
    return [name for line in lines for name in _names(source, name_of(line.strip()))]


def _statements(data: bytes) -> _Statements:
    said = _Statements()
    material = 0
    for line in text_of(data).replace(b"\\\r\n", b" ").replace(b"\\\n", b" ").splitlines():
        key, *values = line.split(None, 1)[:2] or (b"",)
        if not values:
            continue
        key, value = key.lower(), values[0]
        if key == b"v":
            said.vertices.append(value)
        elif key == b"vt":
            said.coordinates.append(value)
        elif key in (b"f", b"fo"):
            corners = value.partition(b"#")[0].split()
            said.corners += corners
            said.faces.append((len(corners), len(said.vertices), len(said.coordinates), material))
        elif key == b"usemtl":
            material = said.materials.setdefault(name_of(value.strip()), len(said.materials))
        elif key == b"mtllib":
            said.libraries.append(name_of(value.strip()))
        elif key == b"#mrgb":
            said.paint.append(value.strip())
    return said


def _numbers(source: Source, lines: list[bytes], key: str) -> np.ndarray:
    """Numbers [n, k] of lines that all begin with k numbers; what follows in longer ones is left out."""
    rows = [line.partition(b"#")[0].split() for line in lines]
    shortest, longest = min(map(len, rows)), max(map(len, rows))
    if shortest != longest:
        rows = [row[:shortest] for row in rows]
    try:
        return np.fromiter(map(float, chain.from_iterable(rows)), np.float64).reshape(len(rows), shortest)
    except ValueError:
        raise source.error(f"has a line '{key}' that is not of numbers: export it again") from None


def _vertices(source: Source, lines: list[bytes]) -> tuple[np.ndarray, np.ndarray | None]:
    """Vertices float64 [V, 3], and colours uint8 [V, 4], by the lines: x y z [w] [r g b] or x y z r g b a."""
    if not lines:
        raise source.error("has faces, but no vertices: export it again")
    vertices = _numbers(source, lines, "v")
    if vertices.shape[1] < 3:
        raise source.error("has a line 'v' of fewer than three numbers: export it again")
    lengths = np.array([len(line.partition(b"#")[0].split()) for line in lines])
    coloured = np.isin(lengths, (6, 7))
    if not coloured.any():
        return vertices[:, :3], None
    colours = np.ones((len(lines), 3))
    for length in (6, 7):
        which = np.flatnonzero(lengths == length)
        if len(which):
            numbers = _numbers(source, [lines[index] for index in which], "v")
            with_alpha = length == 7 and (numbers[:, 3] != 1).any() and len(np.unique(numbers[:, 6])) == 1
            colours[which] = numbers[:, 3:6] if with_alpha else numbers[:, -3:]
    colours[~coloured] = top_of(colours[coloured])
    return vertices[:, :3], bytes_of(colours)


def _painted(source: Source, paint: list[bytes], count: int) -> np.ndarray | None:
    """ZBrush's colours uint8 [count, 4] of the vertices; none, with a note, where they are not as many."""
    try:
        bytes_ = np.frombuffer(bytes.fromhex(b"".join(paint).decode("ascii", "replace")), np.uint8)
    except ValueError:
        bytes_ = np.zeros(0, np.uint8)
    if len(bytes_) != 4 * count:
        source.note(f"its #MRGB are not one colour for each of {count} vertices, so they are left out")
        return None
    return bytes_of(bytes_.reshape(count, 4)[:, 1:])


def _indices(source: Source, corners: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Vertex and texture coordinate of each corner as the file numbers them; 0 where there is none."""
    if not corners:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    slashes = {corner.count(b"/") for corner in corners}
    if slashes == {0}:
        texts = [corners, None]
    else:
        parts = [(corner + b"/").split(b"/", 2)[:2] for corner in corners]
        texts = [[vertex for vertex, _ in parts], [texel or b"0" for _, texel in parts]]
    try:
        vertex, texel = (None if text is None else np.fromiter(map(int, text), np.int64) for text in texts)
    except (ValueError, OverflowError):
        raise source.error("has a face whose corners are no numbers: export it again") from None
    assert vertex is not None
    if (vertex == 0).any():
        raise source.error("has a face that names a vertex 0, which does not exist: export it again")
    return vertex, np.zeros_like(vertex) if texel is None else texel


def _materials(source: Source, said: _Statements) -> list[ObjMaterial]:
    """The materials by their numbers; what no library has is white."""
    known: dict[str, ObjMaterial] = {}
    for statement in dict.fromkeys(said.libraries):
        for name in _names(source, statement):
            known = {**read_library(source, name), **known}  # the first of a name counts
    lower = {name.lower(): item for name, item in reversed(known.items())}
    found = {name: known.get(name) or lower.get(name.lower()) for name in said.materials if name}
    unknown = [name for name, item in found.items() if item is None]
    if unknown:
        where = "no library has" if said.libraries else "it names no library (mtllib) for"
        source.note(f"{where} the material {unknown[0]!r}, so what it colours is white")
    return [found.get(name) or ObjMaterial(white()) for name in said.materials]


def _names(source: Source, statement: str) -> list[str]:
    """The files of a ``mtllib`` statement: several, divided by spaces, or one with spaces in its name."""
    if source.beside(unquoted(statement)) or not re.search(r"\s", statement):
        return [unquoted(statement)]
    parts = re.findall(r'"[^"]*"|(?:\\ |\S)+', statement)
    names, start = [], 0
    while start < len(parts):
        ends = range(min(len(parts), start + MOST_WORDS), start, -1)
        found = (end for end in ends if source.beside(unquoted(" ".join(parts[start:end]))))
        end = next(found, start + 1)
        names.append(unquoted(" ".join(parts[start:end])))
        start = end
    missing = [name for name in names if source.beside(name) is None]
    one = len(missing) == len(names) and len(re.findall(r"\.mtl\b", statement, re.IGNORECASE)) <= 1
    return [unquoted(statement)] if one else names
