"""Which code and which files made a number."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import PIL
import torch

from .. import __version__
from ..media.image import IMAGE_SUFFIXES
from ..media.kinds import MESH_SUFFIXES

ROOT = Path(__file__).parents[1]
ROOMS = ("evaluation", "perceptual", "media", "model", "codec", "render", "understanding", "weights")
FILES = ("config.py", "tokens.py")
"""What the numbers depend on besides the weights: rooms, and files beside them."""
PARTS = IMAGE_SUFFIXES | {".mtl", ".bin"}
"""Files that a 3D file may need: textures, materials, buffers."""


@cache
def code_version() -> dict[str, str]:
    """The release, and the SHA-256 of the source files that the numbers depend on."""
    digest = hashlib.sha256()
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    for path in (*paths, *(ROOT / name for name in FILES)):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return {"atoken": __version__, "sha256": digest.hexdigest()}


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
