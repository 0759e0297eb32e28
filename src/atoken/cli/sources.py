"""Which files of a folder are inputs, and which are parts of one. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from ..media.suffixes import (
    ASSET_SUFFIXES,
    IMAGE_SUFFIXES,
    MESH_SUFFIXES,
    SOG_META,
    VIDEO_SUFFIXES,
    VIEWS_FILES,
    is_views_file,
)


def is_source(path: Path) -> bool:
    """Whether a file in a folder is a picture, a video, a 3D file or a list of files that make one."""
    if path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES | ASSET_SUFFIXES or path.name in VIEWS_FILES:
        return True
    return path.name == SOG_META and bool(_sog_names(path))


def owned_files(path: Path) -> list[Path]:
    """The files that posed views, the ``meta.json`` of a SOG or a mesh name: pictures, depths, materials and textures,
    which are no inputs of their own.

    Nothing where it cannot be read: its reader says why.
    """
    if is_views_file(path):
        from ..media.views.transforms import files_of  # what looks into files only where there are such

        return files_of(path)
    if path.name == SOG_META:
        from ..gaussians.formats.sog import files_of as files_of_sog

        return files_of_sog(path)
    if path.suffix.lower() in MESH_SUFFIXES:
        from ..media.mesh.owned import files_of_mesh

        return files_of_mesh(path)
    return []


def _sog_names(path: Path) -> list[object]:
    from ..gaussians.formats.sog import names_of

    return names_of(path)
