"""What a ``transforms.json`` lists: frames and the files that they name. Needs no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.errors import ReadError, reading
from ...core.regular import is_name, read_regular
from ...core.text import shortened

Frame = Mapping[str, Any]


def files_of(path: Path) -> list[Path]:
    """The pictures, masks and depths that a ``transforms.json`` names in its folder; none where it cannot be read."""
    try:
        _, frames = read_frames(path)
        named = [(picture_of(path, frame), depth_of(path, frame), mask_of(path, frame)) for frame in frames]
        return [file for files in named for file in files if file is not None and file.is_file()]
    except (ValueError, OSError):
        return []


def read_frames(path: Path) -> tuple[Frame, list[Frame]]:
    """The table and its frames, at least one. Raises ``ReadError``, or ``OSError``."""
    data = read_regular(path)
    with reading(path, "see docs/3d.md for what it holds"):
        table = json.loads(data)
        frames = table["frames"] if isinstance(table, dict) else None
        if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
            raise ReadError(f"{path} is not a list of posed frames: see docs/3d.md for what it holds")
        if not frames:
            raise ReadError(f"{path} has no frames")
    return table, frames


def _file(path: Path, name: Any, key: str) -> Path:
    """The file ``name`` in the folder of ``path``, also once links are followed. Raises ``ReadError``."""
    if not is_name(name):
        raise ReadError(f"{path}: a frame's {key} is {shortened(repr(name))}: give the name of a file")
    file = path.parent / name
    if not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(path.parent)):
        raise ReadError(f"{path} refers to {shortened(repr(name))}, outside its folder: refused")
    return file


def picture_of(path: Path, frame: Frame) -> Path:
    """The picture of a frame, ".png" where its name has no ending. Raises ``ReadError`` for a name outside."""
    name = frame.get("file_path")
    file = _file(path, name, "file_path")
    if isinstance(name, str) and (not file.suffix or not file.exists()):  # "r_0", and "frame.0001"
        with_suffix = _file(path, f"{name}.png", "file_path")
        return with_suffix if not file.suffix or with_suffix.exists() else file
    return file


def mask_of(path: Path, frame: Frame) -> Path | None:
    """Its mask, where it names one."""
    return None if frame.get("mask_path") is None else _file(path, frame["mask_path"], "mask_path")


def depth_of(path: Path, frame: Frame) -> Path:
    """Its depth: as named, else the picture's name with ``_depth.png``."""
    for key in ("depth_path", "depth_file_path"):
        if frame.get(key) is not None:
            return _file(path, frame[key], key)
    stem = picture_of(path, frame).relative_to(path.parent).with_suffix("")
    return _file(path, f"{stem}_depth.png", "file_path")
