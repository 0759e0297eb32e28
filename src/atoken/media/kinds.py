"""What a source is: a picture, a video or a 3D asset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .signatures import ARCHIVES as ARCHIVES
from .video.animation import ANIMATION_SUFFIXES, is_animation

VIDEO_SUFFIXES = frozenset(
    (
        ".mp4",
        ".m4v",
        ".f4v",
        ".mov",
        ".3gp",
        ".3g2",
        ".mkv",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".m1v",
        ".m2v",
        ".vob",
        ".ts",
        ".m2ts",
        ".mts",
        ".mxf",
        ".h264",
        ".hevc",
        ".ivf",
        ".y4m",
        ".wmv",
        ".asf",
        ".flv",
        ".ogv",
        ".rm",
    )
)
MESH_SUFFIXES = frozenset({".glb", ".gltf", ".obj", ".ply", ".stl", ".off", ".dae"})
SPLAT_SUFFIXES = frozenset({".splat", ".spz", ".sog"})
ASSET_SUFFIXES = MESH_SUFFIXES | SPLAT_SUFFIXES | {".npz"}
"""With assets as recipes/nano/furniture.py packs them (media/views/packed.py)."""
UNREAD_SUFFIXES = frozenset({".ksplat", ".usdz", ".lcc"})
"""3D files that are refused with the remedy (gaussians/formats/files.py)."""
ASSET_TABLES = ("transforms.json", "meta.json")
"""Lists of files that make one asset together: posed views, and an unpacked SOG."""


def modality_of(source: Any) -> str:
    """ "image", "video" or "3d": by suffix for a path, by the number of axes for an array or tensor,
    by its attribute ``modality`` for anything else that has one.

    A GIF, WebP or AVIF file is a video where it holds more than one frame. Everything else is taken for an image,
    whose reader says what is wrong with it.
    """
    if isinstance(source, np.ndarray | Tensor):
        return "video" if source.ndim == 4 else "image"
    if not isinstance(source, str | os.PathLike):
        return getattr(source, "modality", "image")
    if Path(source).name in ASSET_TABLES:
        return "3d"
    suffix = Path(source).suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return "video"
    if suffix in ASSET_SUFFIXES | UNREAD_SUFFIXES:
        return "3d"
    if suffix in ANIMATION_SUFFIXES and is_animation(source):
        return "video"
    return "image"
