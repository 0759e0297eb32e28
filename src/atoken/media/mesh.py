"""3D files as coloured triangles or points inside the unit cube, with the way back to the file's own frame.

Needs the extra ``mesh`` (trimesh, embreex, pycollada).
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .kinds import ARCHIVES, MESH_SUFFIXES
from .material import Material, materials_of

MAX_FACES = 4_000_000
"""Meshes with more triangles are simplified on a grid far finer than a view's pixels, so that memory stays bounded."""
SIMPLIFY_GRID = 1024
"""Cells along the longest side of that grid."""


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
    """uint8 [V, 4], sRGB and alpha that multiply the material's colour; white where the file has none."""
    transform: tuple[tuple[float, ...], ...]
    """4 x 4 matrix from the unit cube to the file's own frame."""

    @property
    def is_cloud(self) -> bool:
        """Whether these are points without faces."""
        return len(self.faces) == 0


def read_asset(path: str | os.PathLike[str], *, max_faces: int = MAX_FACES) -> Asset:
    """Read GLB, glTF, OBJ, PLY (mesh or coloured points), STL, OFF or DAE.

    A scene is flattened with its transforms; base colours come from textures, factors and vertex colours. The whole is
    centred and scaled so that its longest side is 1. A missing texture is warned about and its material's base colour
    is used; a reference outside the file's folder is refused. Raises ``ValueError`` with one sentence for anything
    that holds no surface or points, and ``FileNotFoundError``.
    """
    trimesh = import_trimesh()
    path = Path(path)
    _check_file(path)
    resolver = _resolver(trimesh, path.parent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scene = trimesh.load_scene(path, process=False, resolver=resolver)
    except Exception as error:  # readers of seven formats raise nearly every class there is
        if resolver.outside:
            raise ValueError(f"{path} refers to {resolver.outside[0]!r}, outside its folder: refused") from None
        if resolver.missing:
            raise ValueError(f"{path} needs {resolver.missing[0]!r}, which is missing") from None
        slip = isinstance(error, LookupError | AttributeError | TypeError)  # of the reader, says nothing of the file
        reason = "" if slip or not str(error) else f" ({' '.join(str(error).split())[:120]})"
        raise ValueError(f"{path} is damaged or not a {path.suffix.lower()} file{reason}") from error
    if resolver.outside:
        raise ValueError(f"{path} refers to {resolver.outside[0]!r}, outside its folder: refused")
    for name in dict.fromkeys(resolver.missing):
        warnings.warn(f"{path}: {name!r} is missing, so what it colours keeps its base colour", stacklevel=2)
    asset = _flatten(trimesh, scene, path)
    del scene  # large ones are not kept twice
    return _normalised(asset, max_faces)


def import_trimesh() -> Any:
    """The package trimesh. Raises ``ValueError`` where the extra is not installed."""
    try:
        import trimesh
    except ImportError:
        raise ValueError("3D files need: pip install 'atoken[mesh]'") from None
    return trimesh


def _check_file(path: Path) -> None:
    if path.suffix.lower() not in MESH_SUFFIXES:
        raise ValueError(f"{path} is not a 3D file: give one of {', '.join(sorted(MESH_SUFFIXES))}")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise ValueError(f"{path} is empty (0 bytes)")
    if head.startswith(ARCHIVES) or head[257:262] == b"ustar":
        raise ValueError(f"{path} is an archive: unpack it and give the 3D file inside")


def _resolver(trimesh: Any, folder: Path) -> Any:
    """Reads the files that a 3D file names, from its own folder only, and remembers what it could not."""

    class Resolver(trimesh.resolvers.Resolver):
        def __init__(self) -> None:
            self.outside: list[str] = []
            self.missing: list[str] = []

        def get(self, name: str) -> bytes:
            clean = str(name).strip().replace("\\", "/")
            target = Path(os.path.realpath(folder / clean))
            if not target.is_relative_to(os.path.realpath(folder)):
                self.outside.append(clean)
                raise ValueError(f"{clean} lies outside the folder")
            if not target.is_file():  # Windows does not mind the case of names
                alike = (p for p in folder.rglob("*") if p.name.lower() == target.name.lower())
                if (found := next(alike, None)) is None:
                    self.missing.append(clean)
                    raise FileNotFoundError(clean)
                target = found
            return target.read_bytes()

        def write(self, name: str, data: bytes) -> None:
            raise ValueError("reading only")

        def namespaced(self, namespace: str) -> Any:
            return self

        def keys(self) -> list[str]:
            return []

    return Resolver()


@dataclass
class _Part:
    """One geometry of a scene in world coordinates."""

    vertices: np.ndarray
    faces: np.ndarray
    material: Material
    uv: np.ndarray
    colours: np.ndarray


def _flatten(trimesh: Any, scene: Any, path: Path) -> Asset:
    parts: list[_Part] = []
    for node in scene.graph.nodes_geometry:
        matrix, name = scene.graph[node]
        geometry = scene.geometry[name]
        if isinstance(geometry, trimesh.Trimesh | trimesh.PointCloud) and len(geometry.vertices):
            parts.append(_part(geometry, np.asarray(matrix), path))
    if any(len(part.faces) for part in parts):
        parts = [part for part in parts if len(part.faces)]
    if not parts:
        raise ValueError(f"{path} has no faces and no points")
    if not any(len(part.faces) for part in parts) and path.suffix.lower() != ".ply":
        raise ValueError(f"{path} has no faces: point clouds are read from .ply")
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    return Asset(
        name=path.stem,
        vertices=_joined([part.vertices for part in parts]),
        faces=_joined([part.faces + np.int32(start) for part, start in zip(parts, starts[:-1], strict=True)]),
        materials=tuple(part.material for part in parts),
        face_material=np.repeat(np.arange(len(parts), dtype=np.int32), [len(part.faces) for part in parts]),
        uv=_joined([part.uv for part in parts]),
        colours=_joined([part.colours for part in parts]),
        transform=(),
    )


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    """All of them in one; a single one is not copied."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _part(geometry: Any, matrix: np.ndarray, path: Path) -> _Part:
    vertices = np.asarray(geometry.vertices, np.float64)
    if not np.isfinite(vertices).all():
        bad = int((~np.isfinite(vertices)).any(1).sum())
        raise ValueError(f"{path}: {bad} of {len(vertices)} vertices are NaN or infinite")
    if not np.array_equal(matrix, np.eye(4)):
        vertices = vertices @ matrix[:3, :3].T + matrix[:3, 3]
    faces = np.asarray(getattr(geometry, "faces", np.zeros((0, 3))), np.int32).reshape(-1, 3)
    if len(faces) and not 0 <= faces.min() <= faces.max() < len(vertices):
        raise ValueError(f"{path}: a face names a vertex that does not exist")
    material, uv, colours = materials_of(geometry, linear=path.suffix.lower() in (".glb", ".gltf"))
    corners = np.zeros((len(faces), 3, 2), np.float32) if uv is None else uv[faces]
    if colours is None:
        if not len(faces):
            warnings.warn(f"{path}: the points have no colours, so they are taken as grey", stacklevel=4)
        colours = np.full((len(vertices), 4), 255 if len(faces) else 128, np.uint8)
    return _Part(vertices, faces, material, corners, colours)


def _normalised(asset: Asset, max_faces: int) -> Asset:
    """Centred, with 1 as the longest side, and simplified where there are too many faces."""
    used = np.full(len(asset.vertices), asset.is_cloud)
    used[asset.faces] = True
    low = asset.vertices.min(0, where=used[:, None], initial=np.inf)
    high = asset.vertices.max(0, where=used[:, None], initial=-np.inf)
    centre, side = (low + high) / 2, float((high - low).max())
    if not side > 0 or not np.isfinite(side):
        raise ValueError(
            f"{asset.name}: all vertices lie at one point or too far apart, so there is no size to scale by"
        )
    vertices = asset.vertices - centre
    vertices = np.divide(vertices, side, out=vertices).astype(np.float32)
    matrix = np.diag([side, side, side, 1.0])
    matrix[:3, 3] = centre
    transform = tuple(map(tuple, matrix.tolist()))
    fields = {**vars(asset), "vertices": vertices, "transform": transform}
    return _simplified(Asset(**fields)) if len(asset.faces) > max_faces else Asset(**fields)


def _simplified(asset: Asset) -> Asset:
    """Vertices that share a cell of a fine grid become one; faces that lose their area or their uniqueness go."""
    key = np.zeros(len(asset.vertices), np.int64)
    for axis in range(3):  # one after the other, as they may be many millions
        key = key * (SIMPLIFY_GRID + 1) + np.floor((asset.vertices[:, axis] + 0.5) * SIMPLIFY_GRID).astype(np.int64)
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
