"""The files that a 3D file names: material libraries, textures and buffers, which are no inputs of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ...core.regular import open_regular
from .mtl import texture_statement
from .obj import libraries_of
from .source import Source, name_of, text_of

HEAD = 2**16
"""Bytes at the beginning in which OBJ, PLY and DAE name what they need."""
MOST = 2**24
"""Bytes of a .gltf that are looked at."""
_TEXTURES = re.compile(rb"[ \t]*(?:map_\w+|norm|bump|disp|decal|refl)[ \t]+(.+)", re.IGNORECASE)
_COMMENTS = re.compile(rb"(?:comment|obj_info)[ \t]+texturefile[:=]?[ \t]+(.+)", re.IGNORECASE)


def files_of_mesh(path: Path) -> list[Path]:
    """Those that are there, in its folder. Nothing where it cannot be read: its reader says why."""
    named = _NAMES.get(path.suffix.lower())
    if named is None:
        return []
    try:
        with open_regular(path) as file:
            data = file.read(MOST if path.suffix.lower() == ".gltf" else HEAD)
        source = Source(path, data=data)
        return [found for name in named(source) if (found := source.beside(name)) is not None]
    except (ValueError, OSError, RecursionError):
        return []


def _of_gltf(source: Source) -> Iterator[str]:
    top = json.loads(source.data.decode(json.detect_encoding(source.data), "replace"))
    for key in ("images", "buffers"):
        for item in top.get(key, []) if isinstance(top, dict) else []:
            uri = item.get("uri") if isinstance(item, dict) else None
            if isinstance(uri, str) and uri[:5].lower() != "data:":
                yield uri


def _of_obj(source: Source) -> Iterator[str]:
    for library in libraries_of(source):
        yield library
        path = source.beside(library)
        for line in text_of(source.read(path)).splitlines() if path else []:
            if match := _TEXTURES.match(line):
                yield texture_statement(name_of(match[1]), lambda name: source.beside(name) is not None)[1]


def _of_ply(source: Source) -> Iterator[str]:
    for match in _COMMENTS.finditer(source.data.partition(b"end_header")[0]):
        yield name_of(match[1].strip())


def _of_dae(source: Source) -> Iterator[str]:
    for match in re.finditer(rb"<init_from>\s*(?:<ref>)?\s*([^<]+?)\s*<", source.data):
        yield name_of(match[1]).removeprefix("file://")


_NAMES: dict[str, Callable[[Source], Iterator[str]]] = {
    ".gltf": _of_gltf,
    ".obj": _of_obj,
    ".ply": _of_ply,
    ".dae": _of_dae,
}
