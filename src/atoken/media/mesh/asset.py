"""Coloured triangles or points inside the unit cube, made of the pieces that a reader found in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from .material import Material
from .source import Source

SIMPLIFY_GRID = 1024
"""Cells along the longest side of the grid on which a mesh of too many faces is simplified."""
CHUNK = 2**20
"""Vertices that are scaled at once."""


@dataclass(frozen=True)
class Asset:
    """Triangles, or points where there are no faces, inside the cube [-0.5, 0.5]^3; axes are those of the file."""

    modality: ClassVar[str] = "3d"

    name: str
    vertices: np.ndarray
    """float32 [V, 3]."""
    faces: np.ndarray
    """int32 [F, 3]; [0, 3] for a point cloud."""
    materials: tuple[Material, ...]
    face_material: np.ndarray
    """int32 [F]."""
    uv: np.ndarray
    """float32 [F, 3, 2], texture coordinates of each corner, v up; zeros where there are none."""
    colours: np.ndarray
    """uint8 or uint16 [V, 4], colours and alpha that multiply the material's, sRGB, or linear light where the material
    is linear; white (the type's largest) where the file has none. Those of points are uint8, sRGB, and stand alone."""
    transform: tuple[tuple[float, ...], ...]
    """4 x 4 matrix from the unit cube to the file's own frame."""

    @property
    def is_cloud(self) -> bool:
        """Whether these are points without faces."""
        return len(self.faces) == 0


def white(*, linear: bool = False) -> Material:
    """The material of what has none."""
    return Material(np.ones(4, np.float32), linear)


@dataclass
class Piece:
    """Triangles or points as a reader found them, in the frame of the file."""

    vertices: np.ndarray
    """float32 or float64 [V, 3]."""
    faces: np.ndarray
    """Integers [F, 3]; [0, 3] for points."""
    uv: np.ndarray | None = None
    """[F, 3, 2], v up, or None."""
    colours: np.ndarray | None = None
    """uint8 or uint16 [V, 4] as ``Asset.colours``, or None."""
    materials: Sequence[Material] = (white(),)
    face_material: np.ndarray | None = None
    """Integers [F]; None where all have the first material."""


def assembled(source: Source, pieces: list[Piece]) -> Asset:
    """All pieces as one asset inside the unit cube. Raises ``ReadError`` where there is nothing to see."""
    pieces = [piece for piece in pieces if len(piece.vertices)]
    surfaces = [piece for piece in pieces if len(piece.faces)]
    if surfaces and len(surfaces) < len(pieces):
        source.note("points beside the faces are left out")
    pieces = surfaces or pieces
    if not pieces:
        raise source.error("has no faces and no points")
    for piece in pieces:
        _check(source, piece)
    vertex_starts = np.cumsum([0, *(len(piece.vertices) for piece in pieces)])
    material_starts = np.cumsum([0, *(len(piece.materials) for piece in pieces)])
    colours = [_colours(source, piece) for piece in pieces]
    fine = any(part.dtype == np.uint16 for part in colours)
    vertices = _joined([piece.vertices for piece in pieces])
    faces = _joined([p.faces.astype(np.int32) + np.int32(s) for p, s in zip(pieces, vertex_starts[:-1], strict=True)])
    vertices, transform = _in_the_unit_cube(source, vertices, faces)
    asset = Asset(
        name=source.path.stem,
        vertices=vertices,
        faces=faces,
        materials=tuple(material for piece in pieces for material in piece.materials),
        face_material=_joined([_owners(p, s) for p, s in zip(pieces, material_starts[:-1], strict=True)]),
        uv=_joined([_coordinates(source, piece) for piece in pieces]),
        colours=_joined([part * np.uint16(257) if fine and part.dtype == np.uint8 else part for part in colours]),
        transform=transform,
    )
    if len(asset.faces) and _is_transparent(asset):
        raise source.error("is transparent in all its parts (alpha below the cutoff), so there is nothing to see")
    for material in asset.materials:
        if material.cutoff is not None and _most_alpha(material) < min(material.cutoff, 1):
            source.note("what has an alpha below its cutoff is left out, as nothing here is half transparent")
    return asset


def texture_alone(source: Source, piece: Piece) -> list[Piece]:
    """``piece`` without vertex colours where it is textured: OBJ and PLY have them beside a texture, which shows the
    same surface, so that their product would be too dark."""
    owner = np.zeros(len(piece.faces), np.int64) if piece.face_material is None else piece.face_material
    textured = np.array([bool(material.mips) for material in piece.materials])[owner]
    if piece.colours is None or not textured.any() or (piece.colours[:, :3] == 255).all():
        return [piece]
    source.note("it has a texture and colours of vertices or faces: the texture alone is taken")
    uv = piece.uv
    parts = [(textured, None), (~textured, piece.colours)]
    return [
        replace(
            piece, faces=piece.faces[which], uv=None if uv is None else uv[which], colours=c, face_material=owner[which]
        )
        for which, c in parts
        if which.any()
    ]


def untextured(source: Source, piece: Piece, bare: np.ndarray) -> Piece:
    """``piece`` with the base colour alone on the faces ``bare``, bool [F], which have no texture coordinates."""
    owner = np.zeros(len(piece.faces), np.int64) if piece.face_material is None else piece.face_material
    textured = np.array([bool(material.mips) for material in piece.materials])[owner] & bare
    if not textured.any():
        return piece
    source.note("faces with a texture, but without its coordinates, have its base colour")
    plain = [replace(material, mips=(), cutoff=None) for material in piece.materials]
    owner = np.where(textured, owner + len(plain), owner)
    return replace(piece, materials=[*piece.materials, *plain], face_material=owner)


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    """All of them in one; a single one is not copied."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _check(source: Source, piece: Piece) -> None:
    finite = np.isfinite(piece.vertices).all(1)
    if not finite.all():
        raise source.error(f"has {(~finite).sum()} of {len(finite)} vertices that are NaN or infinite: export it again")
    if len(piece.faces) and not 0 <= piece.faces.min() <= piece.faces.max() < len(piece.vertices):
        raise source.error("has a face that names a vertex that does not exist: export it again")


def _owners(piece: Piece, start: int) -> np.ndarray:
    if piece.face_material is None:
        return np.full(len(piece.faces), start, np.int32)
    return (piece.face_material + start).astype(np.int32)


def _coordinates(source: Source, piece: Piece) -> np.ndarray:
    if piece.uv is None:
        return np.zeros((len(piece.faces), 3, 2), np.float32)
    uv = np.asarray(piece.uv, np.float32)
    if not np.isfinite(uv).all():
        source.note("texture coordinates that are NaN or infinite are taken as 0")
        uv = np.nan_to_num(uv, posinf=0, neginf=0)
    return uv


def _colours(source: Source, piece: Piece) -> np.ndarray:
    if piece.colours is not None:
        return piece.colours
    if not len(piece.faces):
        source.note("the points have no colours, so they are taken as grey")
    return np.full((len(piece.vertices), 4), 255 if len(piece.faces) else 128, np.uint8)


def _is_transparent(asset: Asset) -> bool:
    """Whether no part can reach the alpha below which it is a hole."""
    tint = asset.colours[:, 3].max() / np.iinfo(asset.colours.dtype).max
    for material in asset.materials:
        if material.cutoff is None or _most_alpha(material) * tint >= material.cutoff:
            return False
    return True


def _most_alpha(material: Material) -> float:
    """The largest alpha that the material has anywhere."""
    texture = material.mips[0][..., 3].max() / 255 if material.mips else 1.0
    return float(material.factor[3] * texture)


def _in_the_unit_cube(
    source: Source, vertices: np.ndarray, faces: np.ndarray
) -> tuple[np.ndarray, tuple[tuple[float, ...], ...]]:
    """Vertices float32 [V, 3], centred, with 1 as the longest side of what is used of them, and the way back."""
    used = np.full(len(vertices), len(faces) == 0)
    used[faces] = True
    low = vertices.min(0, where=used[:, None], initial=np.inf).astype(np.float64)
    high = vertices.max(0, where=used[:, None], initial=-np.inf).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        centre, side = (low + high) / 2, float((high - low).max())
    if not side > 0 or not np.isfinite(side):
        raise source.error("has all vertices at one point, or too far apart, so there is no size to scale by")
    scaled = np.empty((len(vertices), 3), np.float32)
    for start in range(0, len(vertices), CHUNK):
        part = slice(start, start + CHUNK)
        # vertices that no face uses may lie anywhere
        scaled[part] = np.clip((vertices[part] - centre) / side, -1e6, 1e6)
    matrix = np.diag([side, side, side, 1.0])
    matrix[:3, 3] = centre
    return scaled, tuple(map(tuple, matrix.tolist()))


def simplified(asset: Asset) -> Asset:
    """Vertices that share a cell of a fine grid become one; faces that lose their area or their uniqueness go."""
    key = np.zeros(len(asset.vertices), np.int64)
    for axis in range(3):  # one after the other, as they may be many millions
        cell = np.floor((asset.vertices[:, axis] + 0.5) * SIMPLIFY_GRID).astype(np.int64)
        key = key * (SIMPLIFY_GRID + 1) + np.clip(cell, 0, SIMPLIFY_GRID)
    _, first, place = np.unique(key, return_index=True, return_inverse=True)
    faces = place.astype(np.int32)[asset.faces]
    spread = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    kept = np.flatnonzero(spread)
    ordered = np.sort(faces[kept], 1).astype(np.int64)
    count = len(first)
    _, unique = np.unique((ordered[:, 0] * count + ordered[:, 1]) * count + ordered[:, 2], return_index=True)
    kept = kept[np.sort(unique)]
    return Asset(
        asset.name,
        asset.vertices[first],
        faces[kept],
        asset.materials,
        asset.face_material[kept],
        asset.uv[kept],
        asset.colours[first],
        asset.transform,
    )
