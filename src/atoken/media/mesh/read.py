"""3D files as coloured triangles or points inside the unit cube. Needs the extra ``mesh``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

from ...core.errors import ReadError, reading
from ...core.regular import open_regular
from ..image.opener import DEFAULT_MAX_PIXELS
from ..signatures import ARCHIVES
from ..suffixes import MESH_SUFFIXES
from .asset import Asset, Piece, assembled, simplified
from .dae import read_dae
from .gltf import read_gltf
from .obj import read_obj
from .off import read_off
from .ply import read_ply
from .source import Source
from .stl import read_stl

MAX_FACES = 4_000_000
"""Meshes with more triangles are simplified on a grid far finer than a view's pixels, so that memory stays bounded."""
READERS: dict[str, Callable[[Source], list[Piece]]] = {
    ".glb": read_gltf,
    ".gltf": read_gltf,
    ".obj": read_obj,
    ".ply": read_ply,
    ".off": read_off,
    ".stl": read_stl,
    ".dae": read_dae,
}
CLOUDS = (".ply", ".glb", ".gltf")
"""What may hold points alone."""


def read_asset(
    path: str | os.PathLike[str], *, max_faces: int = MAX_FACES, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Asset:
    """Read GLB, glTF, OBJ, PLY (mesh or coloured points), STL, OFF or DAE; docs/3d.md says what of each.

    A scene is flattened with its transforms; base colours come from textures, factors and vertex colours. The whole is
    centred and scaled so that its longest side is 1. A missing texture is warned about and its material's base colour
    is used.

    Args:
        path: The file; those that it names are read from its folder only.
        max_faces: A mesh with more triangles is simplified.
        max_pixels: Most pixels of a texture, checked on the header.

    Raises:
        ReadError: Anything that holds no surface or points, is damaged, needs what cannot be read, or names a file
            outside of its folder; a texture that is no picture or too large.
        OSError: From opening the file.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ReadError(f"{path} is not a 3D file: give one of {', '.join(sorted(MESH_SUFFIXES))}")
    _check_start(path)
    with reading(path):
        source = Source(path, max_pixels)
        asset = assembled(source, reader(source))
    if asset.is_cloud and path.suffix.lower() not in CLOUDS:
        raise ReadError(f"{path} has no faces: point clouds are read from {', '.join(CLOUDS)}")
    for note in source.notes:
        warnings.warn(note, stacklevel=2)
    return simplified(asset) if len(asset.faces) > max_faces else asset


def _check_start(path: Path) -> None:
    with open_regular(path) as file:
        head = file.read(512)
    if not head:
        raise ReadError(f"{path} is empty (0 bytes): save or download it again")
    if head.startswith(ARCHIVES) or head[257:262] == b"ustar":
        raise ReadError(f"{path} is an archive: unpack it and give the 3D file inside")
