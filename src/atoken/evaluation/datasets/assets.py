"""Class folders: meshes, as Toys4k has them, and pictures; and the packed furniture with its split."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ...core.regular import below
from ...media.suffixes import ASSET_SUFFIXES, IMAGE_SUFFIXES
from .items import Item, files_below, name_below, read_json


def class_folders(folder: Path) -> list[Item]:
    """Every asset below ``folder``; the first folder of its path is its class (``airplane/airplane_000/mesh.obj``).

    Where ``folder`` holds Toys4k's archives, that is below its ``toys4k_obj_files``. Labels are the order of the class
    names, in which underscores become spaces. Raises ``FileNotFoundError``, and ``ValueError`` for an asset outside any
    class folder.
    """
    toys = folder / "toys4k_obj_files"
    return _in_classes(toys if toys.is_dir() else folder, ASSET_SUFFIXES)


def picture_classes(folder: Path) -> list[Item]:
    """Every picture below ``folder``, in class folders like those of ``class_folders``."""
    return _in_classes(folder, IMAGE_SUFFIXES)


def furniture(folder: Path, split: str = "test") -> list[Item]:
    """The objects of one split of the folder that recipes/nano/furniture.py writes, with category and name.

    Raises ``FileNotFoundError`` where ``index.json`` or an object is missing, and ``ValueError`` for another index.
    """
    index = folder / "index.json"
    if not index.is_file():
        raise FileNotFoundError(f"no {index}: recipes/nano/furniture.py writes it")
    entries = read_json(index)
    try:
        categories = sorted({entry["category"] for entry in entries})
        items = [
            Item(
                entry["id"],
                below(folder, f"{entry['id']}.npz", index),
                categories.index(entry["category"]),
                entry["category"].lower(),
                (f"{entry['name']}, {entry['category']}".lower(),),
            )
            for entry in entries
            if entry["split"] == split
        ]
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{index} needs a list of id, name, category and split of each object") from None
    if missing := [item.path for item in items if not item.path.is_file()]:
        raise FileNotFoundError(f"no file {missing[0]}")
    return items


def _in_classes(folder: Path, suffixes: Collection[str]) -> list[Item]:
    paths = files_below(folder, suffixes)
    if bare := [path for path in paths if path.parent == folder]:
        raise ValueError(f"{bare[0]} lies in no class folder")
    classes = sorted({path.relative_to(folder).parts[0] for path in paths})
    return [
        Item(name_below(folder, path), path, classes.index(name), name.replace("_", " "))
        for path in paths
        for name in path.relative_to(folder).parts[:1]
    ]
