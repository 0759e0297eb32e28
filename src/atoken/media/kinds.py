"""What a source is: a picture, a video or a 3D asset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv"})
ASSET_SUFFIXES = frozenset({".glb", ".gltf", ".obj", ".ply", ".stl", ".off", ".dae"})


def modality_of(source: Any) -> str:
    """ "image", "video" or "3d": by suffix for a path, by the number of axes for an array or tensor,
    by its attribute ``modality`` for anything else that has one.

    Raises ``ValueError`` where neither tells.
    """
    if isinstance(source, np.ndarray | Tensor):
        return "video" if source.ndim == 4 else "image"
    if not isinstance(source, str | os.PathLike):
        return getattr(source, "modality", "image")
    if Path(source).name == "transforms.json":
        return "3d"
    suffix = Path(source).suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return "video"
    if suffix in ASSET_SUFFIXES:
        return "3d"
    return "image"
