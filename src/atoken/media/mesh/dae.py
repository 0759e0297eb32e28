"""COLLADA (.dae), by trimesh and pycollada."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np

from ...core.errors import ReadError, reading
from ...core.text import shortened
from ..image.opener import open_picture
from .asset import Piece
from .dae_effects import rewritten
from .material import ALPHA_CUTOFF, Material
from .source import Source


def read_dae(source: Source) -> list[Piece]:
    """The triangles of all geometries, flattened with their transforms."""
    try:
        import collada  # noqa: F401
        import trimesh
    except ImportError:
        raise ReadError(f"{source.path} needs: pip install 'atoken[mesh]'") from None
    resolver = _resolver(trimesh, source)
    file = io.BytesIO(rewritten(source))
    try:
        with reading(source.path), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scene = trimesh.load_scene(file, file_type="dae", process=False, resolver=resolver)
    finally:
        if resolver.refusal is not None:
            raise resolver.refusal
    pieces = []
    for node in scene.graph.nodes_geometry:
        matrix, name = scene.graph[node]
        geometry = scene.geometry[name]
        if isinstance(geometry, trimesh.Trimesh) and len(geometry.vertices):
            with reading(source.path):
                pieces.append(_piece(source, geometry, np.asarray(matrix)))
    return pieces


def _resolver(trimesh: Any, source: Source) -> Any:
    """Gives trimesh the pictures that the file names, which are all it asks for, once they are known to be pictures."""

    class Resolver(trimesh.resolvers.Resolver):
        def __init__(self) -> None:
            self.refusal: ReadError | None = None

        def get(self, name: str) -> bytes:
            try:
                path = source.beside(str(name))
                if path is None:
                    source.note(f"{shortened(name)!r} is missing, so what it colours keeps its base colour")
                    raise FileNotFoundError(name)
                with open_picture(
                    path, name=f"{source.path}: the texture {shortened(name)!r}", max_pixels=source.max_pixels
                ):
                    return source.read(path)
            except ReadError as error:
                self.refusal = error  # trimesh would go on without the texture
                raise

        def write(self, name: str, data: bytes) -> None:
            raise ValueError("reading only")

        def namespaced(self, namespace: str) -> Any:
            return self

        def keys(self) -> list[str]:
            return []

    return Resolver()


def _piece(source: Source, geometry: Any, matrix: np.ndarray) -> Piece:
    vertices = np.asarray(geometry.vertices, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    faces = np.asarray(geometry.faces, np.int64).reshape(-1, 3)
    visual = geometry.visual
    factor, uv = np.ones(4, np.float32), None
    mips: tuple[np.ndarray, ...] = ()
    if visual.kind == "texture":
        colour = getattr(visual.material, "baseColorFactor", None)
        if colour is not None:
            values = np.asarray(colour).ravel()[:4]
            factor[: len(values)] = values / 255 if values.dtype == np.uint8 else values
        image = getattr(visual.material, "baseColorTexture", None)
        if visual.uv is not None and len(visual.uv) == len(vertices):
            uv = np.asarray(visual.uv)[:, :2][faces]
            if image is not None:
                mips = source.loaded(image, f"{source.path}: a texture", alpha=False)
    colours = None
    if visual.kind == "vertex":
        colours = np.asarray(visual.vertex_colors, np.uint8)
    cutoff = ALPHA_CUTOFF if factor[3] < 1 else None
    return Piece(vertices, faces, uv, colours, [Material(factor, False, mips, cutoff)])
