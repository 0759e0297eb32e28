"""What a ``transforms.json`` lists: frames and the files that they name. Needs no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...core.errors import ReadError, reading
from ...core.regular import Folder, is_name, open_regular
from ...core.text import shortened

Frame = Mapping[str, Any]

LARGEST = 2**28
"""Bytes of a table: 100,000 frames take some 50 MB."""


def files_of(path: Path) -> list[Path]:
    """The pictures, masks and depths that a ``transforms.json`` names in its folder; none where it cannot be read."""
    try:
        _, frames = read_frames(path)
        files = FrameFiles(path)
        return [Path(file) for frame in frames for file in files.all_of(frame) if os.path.isfile(file)]
    except (ValueError, OSError):
        return []


def read_frames(path: Path) -> tuple[Frame, list[Frame]]:
    """The table and its frames, at least one. Raises ``ReadError``, or ``OSError``."""
    with open_regular(path) as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ReadError(f"{path} is larger than {LARGEST:,} bytes, which is no list of frames: take fewer of them")
    with reading(path, "see docs/3d.md for what it holds"):
        table = json.loads(data)
        frames = table["frames"] if isinstance(table, dict) else None
        if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
            raise ReadError(f"{path} is not a list of posed frames: see docs/3d.md for what it holds")
        if not frames:
            raise ReadError(f"{path} has no frames")
    return table, frames


class FrameFiles:
    """The paths of the files that the frames of a table name, which are there or not.

    Each method raises ``ReadError`` for one outside of its folder. Paths are text, which is quicker for 100,000 frames.
    """

    def __init__(self, table: Path) -> None:
        self.table = table
        self._parent = str(table.parent)
        self._folder = Folder(self._parent)

    def picture(self, frame: Frame) -> str:
        """The picture; a name without a suffix is that of a PNG."""
        name = frame.get("file_path")
        file = self._file(name, "file_path")
        bare = not os.path.splitext(file)[1]
        if bare or not os.path.exists(file):  # "r_0", and "frame.0001"
            with_suffix = self._file(f"{name}.png", "file_path")
            return with_suffix if bare or os.path.exists(with_suffix) else file
        return file

    def mask(self, frame: Frame) -> str | None:
        """The mask, or None where there is none."""
        return None if frame.get("mask_path") is None else self._file(frame["mask_path"], "mask_path")

    def depth(self, frame: Frame, picture: str) -> str:
        """The depth that is named, or the one beside the picture."""
        for key in ("depth_path", "depth_file_path"):
            if frame.get(key) is not None:
                return self._file(frame[key], key)
        return self._inside(f"{os.path.splitext(picture)[0]}_depth.png")

    def all_of(self, frame: Frame) -> Iterator[str]:
        """Picture, depth and mask."""
        picture = self.picture(frame)
        yield picture
        yield self.depth(frame, picture)
        if (mask := self.mask(frame)) is not None:
            yield mask

    def _file(self, name: Any, key: str) -> str:
        if not is_name(name):
            raise ReadError(f"{self.table}: a frame's {key} is {shortened(repr(name))}: give the name of a file")
        file = os.path.join(self._parent, name)
        if "\\" in name and not os.path.exists(file):  # as Windows writes it
            file = os.path.join(self._parent, name.replace("\\", "/"))
        return self._inside(file)

    def _inside(self, file: str) -> str:
        if not self._folder.holds(file):
            raise ReadError(f"{self.table} refers to {shortened(repr(file))}, outside its folder: refused")
        return file
