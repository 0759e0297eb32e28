"""What a source is: a picture, a video or a 3D asset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .signatures import ARCHIVES as ARCHIVES
from .suffixes import ANIMATION_SUFFIXES, ASSET_SUFFIXES, SOG_META, UNREAD_SUFFIXES, VIDEO_SUFFIXES, is_views_file
from .video.animation import is_animation


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
    path = Path(source)
    if path.name == SOG_META or is_views_file(path):
        return "3d"
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return "video"
    if suffix in ASSET_SUFFIXES | UNREAD_SUFFIXES:
        return "3d"
    if suffix in ANIMATION_SUFFIXES and is_animation(source):
        return "video"
    return "image"
