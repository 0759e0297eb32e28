"""3D data: meshes in class folders, as Toys4k has them."""

from __future__ import annotations

from pathlib import Path

from ...media.kinds import ASSET_SUFFIXES
from .items import Item, files_below, name_below


def class_folders(folder: Path) -> list[Item]:
    """Every asset below ``folder``; the first folder of its path is its class (``airplane/airplane_000/mesh.obj``).

    Labels are the order of the class names, in which underscores become spaces. Raises ``FileNotFoundError``, and
    ``ValueError`` for an asset outside any class folder.
    """
    paths = files_below(folder, ASSET_SUFFIXES)
    if bare := [path for path in paths if path.parent == folder]:
        raise ValueError(f"{bare[0]} lies in no class folder")
    classes = sorted({path.relative_to(folder).parts[0] for path in paths})
    return [
        Item(name_below(folder, path), path, classes.index(name), name.replace("_", " "))
        for path in paths
        for name in path.relative_to(folder).parts[:1]
    ]
