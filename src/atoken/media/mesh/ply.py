"""PLY meshes and points: colours and texture coordinates of vertices, faces and wedges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core.text import shortened
from .asset import Piece, texture_alone, untextured, white
from .colours import bytes_of
from .material import ALPHA_CUTOFF, Material
from .ply_data import Element, Lists, read_elements
from .polygons import triangles_of
from .source import Source

COLOURS = (
    ("red", "green", "blue", "alpha"),
    ("r", "g", "b", "a"),
    ("diffuse_red", "diffuse_green", "diffuse_blue", "diffuse_alpha"),
    ("vertex_red", "vertex_green", "vertex_blue", "vertex_alpha"),
    ("color_red", "color_green", "color_blue", "color_alpha"),
    ("ambient_red", "ambient_green", "ambient_blue", "ambient_alpha"),
    ("rgb_r", "rgb_g", "rgb_b", "rgb_a"),
)
"""What writers call the channels of a colour, the usual names first; the last may be missing."""
COORDINATES = (("s", "t"), ("u", "v"), ("texture_u", "texture_v"), ("texture_s", "texture_t"), ("tex_u", "tex_v"))
"""What writers call texture coordinates."""
FACE_LISTS = ("vertex_indices", "vertex_index", "vertex_indexes", "indices")


@dataclass
class _Faces:
    """Triangles of polygons, and which polygon each corner and triangle is of."""

    corners: np.ndarray
    """int64 [F, 3], vertices."""
    places: np.ndarray
    """int64 [F, 3], places among the corners of all polygons."""
    polygons: np.ndarray
    """int64 [F]."""
    counts: np.ndarray
    """int64 [P], corners of each polygon."""


def read_ply(source: Source) -> list[Piece]:
    """A PLY file's triangles, or its points where it has no faces."""
    elements, textures = read_elements(source)
    vertex = _named(elements, "vertex", "vertices", "point", "points")
    if vertex is None or not all(axis in vertex.values for axis in "xyz"):
        raise source.error("has no faces and no points: a .ply needs vertices with x, y and z")
    vertices = np.stack([_scalars(source, vertex, axis) for axis in "xyz"], 1)
    if vertices.dtype.kind != "f":
        vertices = vertices.astype(np.float64)
    colours = _colours(source, vertex)
    face = _named(elements, "face", "faces", "tristrips", "tristrip")
    faces = None if face is None else _faces(source, face, vertices)
    if faces is None or face is None or not len(faces.corners):
        return [Piece(vertices, np.zeros((0, 3), np.int64), colours=colours)]
    uv, bare = _wedges(source, face, faces)
    if uv is None:
        uv = _vertex_coordinates(source, vertex, faces)
    if textures and uv is None:
        source.note(f"it names the texture {shortened(textures[0])!r}, but has no texture coordinates: it is left out")
    materials = [_material(source, name) for name in textures] if textures and uv is not None else [white()]
    owner = _owners(source, face, faces, len(materials))
    if owner is not None:
        bare |= owner < 0
    face_colours = _colours(source, face)
    if face_colours is not None and colours is not None:
        source.note("it has colours of vertices and of faces: those of the vertices are taken")
    elif face_colours is not None and len(face_colours) == len(faces.counts):  # each face has vertices of its own
        vertices = vertices[faces.corners].reshape(-1, 3)
        colours = np.repeat(face_colours[faces.polygons], 3, 0)
        faces.corners = np.arange(len(vertices)).reshape(-1, 3)
    piece = Piece(vertices, faces.corners, uv, colours, materials, None if owner is None else np.maximum(owner, 0))
    return texture_alone(source, untextured(source, piece, bare))


def _named(elements: dict[str, Element], *names: str) -> Element | None:
    return next((elements[name] for name in names if name in elements and elements[name].count), None)


def _scalars(source: Source, element: Element, name: str) -> np.ndarray:
    values = element.values[name]
    if isinstance(values, Lists):
        raise source.error(f"has a list as {name!r} where one number is meant: export it again")
    return values


def _colours(source: Source, element: Element) -> np.ndarray | None:
    """Colours uint8 [n, 4] of the vertices or faces; alpha is kept, though a PLY's faces have no holes."""
    for names in COLOURS:
        if all(name in element.values for name in names[:3]):
            present = [name for name in names if name in element.values]
            return bytes_of(np.stack([_scalars(source, element, name) for name in present], 1))
    return None


def _faces(source: Source, face: Element, vertices: np.ndarray) -> _Faces | None:
    lists = {name: values for name, values in face.values.items() if isinstance(values, Lists)}
    chosen = next((name for name in FACE_LISTS if name in lists), None)
    if chosen is None:
        chosen = next((name for name, values in lists.items() if values.flat.dtype.kind in "iu"), None)
    if chosen is None:
        return None
    counts, corners = lists[chosen].counts, lists[chosen].flat.astype(np.int64)
    if face.name.startswith("tristrip"):
        return _strips(source, counts, corners, len(vertices))
    if len(corners) and not 0 <= corners.min() <= corners.max() < len(vertices):
        raise source.error("has a face that names a vertex that does not exist: export it again")
    places, polygons = triangles_of(counts, corners, vertices)
    return _Faces(corners[places], places, polygons, counts)


def _strips(source: Source, counts: np.ndarray, corners: np.ndarray, count: int) -> _Faces:
    """Triangle strips, one a row or several divided by -1, each second triangle turned round."""
    if len(corners) and not -1 <= corners.min() <= corners.max() < count:
        raise source.error("has a face that names a vertex that does not exist: export it again")
    places = np.arange(max(len(corners) - 2, 0))[:, None] + np.arange(3)
    rows = np.repeat(np.arange(len(counts)), counts)
    begins = np.concatenate([[0], np.cumsum(counts)[:-1]]) if len(counts) else counts
    ends = np.flatnonzero(corners < 0)
    starts = np.concatenate([[0], ends + 1])[np.searchsorted(ends, places[:, 0])]
    starts = np.maximum(starts, begins[rows[places[:, 0]]])
    whole = (corners[places] >= 0).all(1) & (rows[places[:, 0]] == rows[places[:, 2]])
    odd = (places[:, 0] - starts) % 2 == 1
    places[odd] = places[odd][:, [1, 0, 2]]
    a, b, c = corners[places].T
    places = places[whole & (a != b) & (b != c) & (c != a)]
    return _Faces(corners[places], places, rows[places[:, 0]], counts)


def _wedges(source: Source, face: Element, faces: _Faces) -> tuple[np.ndarray | None, np.ndarray]:
    """Texture coordinates [F, 3, 2] that each face lists for its corners, as MeshLab writes them, and which faces
    list none, bool [F]."""
    none = None, np.zeros(len(faces.corners), bool)
    lists = face.values.get("texcoord", face.values.get("texcoords"))
    if not isinstance(lists, Lists) or len(lists.counts) != len(faces.counts):
        return none
    textured = lists.counts > 0
    if not textured.any():
        return none
    if (lists.counts[textured] != 2 * faces.counts[textured]).any():
        raise source.error("has a face whose 'texcoord' is not two numbers for each corner: export it again")
    before = np.cumsum(lists.counts) - lists.counts
    corner = faces.places - (np.cumsum(faces.counts) - faces.counts)[faces.polygons][:, None]
    at = (before[faces.polygons][:, None] + 2 * corner)[..., None] + np.arange(2)
    has = textured[faces.polygons]
    return np.where(has[:, None, None], lists.flat[np.where(has[:, None, None], at, 0)], 0), ~has


def _vertex_coordinates(source: Source, vertex: Element, faces: _Faces) -> np.ndarray | None:
    for names in COORDINATES:
        if all(name in vertex.values for name in names):
            return np.stack([_scalars(source, vertex, name) for name in names], 1)[faces.corners]
    return None


def _material(source: Source, name: str) -> Material:
    mips = source.texture(name, alpha=True)
    return Material(np.ones(4, np.float32), False, mips, ALPHA_CUTOFF if mips else None)


def _owners(source: Source, face: Element, faces: _Faces, count: int) -> np.ndarray | None:
    """The texture of each triangle (``texnumber``), -1 for none."""
    if "texnumber" not in face.values:
        return None
    numbers = _scalars(source, face, "texnumber").astype(np.int64)
    if len(numbers) != len(faces.counts) or not -1 <= numbers.min() <= numbers.max() < count:
        raise source.error("has a face that names a texture that does not exist: export it again")
    return numbers[faces.polygons]
