"""Which code and which files made a number."""

from __future__ import annotations

import ast
import hashlib
import platform
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import PIL
import torch

from .. import __version__
from ..media.suffixes import IMAGE_SUFFIXES, MESH_SUFFIXES

ROOT = Path(__file__).parents[1]
ENTRIES = ("evaluation", "weights/load.py", "language/aligned.py")
"""Where the code behind a number begins: this room, and what it is handed by those who call it."""
PARTS = IMAGE_SUFFIXES | {".mtl", ".bin"}
"""Files that a 3D file may need: textures, materials, buffers."""


@cache
def code_version(*more: str) -> dict[str, str]:
    """The release, and the SHA-256 of the source files that the numbers depend on; ``more`` entries beside ours."""
    return {"atoken": __version__, "sha256": code_hash(ROOT, *more)}


def code_hash(root: Path, *more: str) -> str:
    """SHA-256 of the package in the folder ``root``: names and bytes of ``ENTRIES``, ``more``, and all they import."""
    digest = hashlib.sha256()
    for path in sorted(import_closure(root, *more)):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def import_closure(root: Path, *more: str) -> set[Path]:
    """The source files of the package in the folder ``root`` that its ``ENTRIES`` and ``more`` need, and they.

    Imports are read from the source, those inside of functions too; those for type checkers alone do not count. With a
    module come the ``__init__.py`` of the packages that it is in.
    """
    left = [
        path
        for entry in (*ENTRIES, *more)
        for path in ((root / entry).rglob("*.py") if (root / entry).is_dir() else [root / entry])
    ]
    found: set[Path] = set()
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            left += (folder / "__init__.py" for folder in path.parents if folder.is_relative_to(root))
            left += _imported(path, root)
    return found


def _imported(path: Path, root: Path) -> Iterator[Path]:
    """Files of the package that ``path`` names in its import statements."""
    for node in _at_run_time(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, path, root)
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]  # a name may be a module itself
        else:
            continue
        for name in names:
            package, *parts = name.split(".")
            place = root.joinpath(*parts)
            if package == root.name:
                yield from (file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file())


def _absolute(node: ast.ImportFrom, path: Path, root: Path) -> str:
    """The dotted name that ``node`` imports from, in the file ``path``."""
    if not node.level:
        return node.module or ""
    folder = path.parents[node.level - 1].relative_to(root.parent)
    return ".".join([*folder.parts, *([node.module] if node.module else [])])


def _at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below ``node`` but for the bodies of ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        yield child
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            for other in child.orelse:
                yield from (other, *_at_run_time(other))
        else:
            yield from _at_run_time(child)


def stamps(path: Path) -> list[tuple[int, int]]:
    """Size and time of change of a file or of each file in a folder: others where one was replaced. Empty for none."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [(status.st_size, status.st_mtime_ns) for file in files if file.exists() for status in [file.stat()]]


def stamps_beside(paths: Iterable[Path]) -> list[tuple[str, list[tuple[int, int]]]]:
    """Names and stamps of the textures, materials and buffers in the folders of those paths that are 3D files."""
    folders = sorted({path.parent for path in paths if path.suffix.lower() in MESH_SUFFIXES})
    return [
        (str(part), stamps(part))
        for folder in folders
        for part in sorted(folder.rglob("*"))
        if part.suffix.lower() in PARTS
    ]


def environment(device: str) -> dict[str, Any]:
    """Versions and machine, for the record; they do not enter the fingerprint of a run."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pillow": PIL.__version__,
        "device": f"{device} ({name})",
        "threads": torch.get_num_threads(),
    }
