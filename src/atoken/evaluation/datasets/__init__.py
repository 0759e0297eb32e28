"""Data sets in the layouts they are published in, as lists of items."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .assets import class_folders, furniture, picture_classes
from .items import Item
from .pictures import coco_captions, imagenet_val, picture_folder
from .videos import msrvtt, msvd, video_folder

__all__ = [
    "LAYOUTS",
    "Item",
    "class_folders",
    "coco_captions",
    "furniture",
    "imagenet_val",
    "msrvtt",
    "msvd",
    "picture_classes",
    "picture_folder",
    "read_layout",
    "video_folder",
]

LAYOUTS: dict[str, tuple[str, Callable[[Path], list[Item]]]] = {
    "folder": ("image", picture_folder),
    "classes": ("image", picture_classes),
    "imagenet": ("image", imagenet_val),
    "coco": ("image", coco_captions),
    "videos": ("video", video_folder),
    "msrvtt": ("video", msrvtt),
    "msvd": ("video", msvd),
    "assets": ("3d", class_folders),
    "furniture": ("3d", furniture),
}
"""Name of a layout: its modality, and the reader of its folder."""
DEFAULTS = {"image": "folder", "video": "videos", "3d": "assets"}


def read_layout(path: Path, layout: str | None, modality: str | None) -> list[Item]:
    """Items of the data at ``path``; by default a plain folder of the modality; any layout where that is None.

    Raises ``ValueError`` for an unknown layout, one of another modality, files that are not what they should be or no
    items, and ``FileNotFoundError`` for missing files.
    """
    layout = layout or DEFAULTS[modality or "image"]
    if layout not in LAYOUTS:
        raise ValueError(f"no layout {layout!r}: there are {', '.join(LAYOUTS)}")
    kind, reader = LAYOUTS[layout]
    if modality and kind != modality:
        fitting = ", ".join(name for name, (other, _) in LAYOUTS.items() if other == modality)
        raise ValueError(f"the layout {layout!r} does not hold what this protocol measures; these do: {fitting}")
    items = reader(path)
    if not items:
        raise ValueError(f"{path} holds no items for the layout {layout!r}: the file that lists them names none")
    return items
