"""What a file may be by its name alone: lower-case suffixes. Needs nothing, so that a folder is listed at once."""

from __future__ import annotations

from pathlib import Path

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".apng", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif", ".tga"}
    | {".heic", ".heif", ".hif", ".jxl"}  # with the extra ``pictures``
)
"""Pictures that `read_image` reads; the format itself is recognised by content."""
ANIMATION_SUFFIXES = frozenset({".gif", ".webp", ".avif", ".apng"})
"""Those that may hold a still picture or an animation."""
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".f4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m1v", ".m2v", ".vob"}
    | {".ts", ".m2ts", ".mts", ".mxf", ".h264", ".hevc", ".ivf", ".y4m", ".wmv", ".asf", ".flv", ".ogv", ".rm"}
)
MESH_SUFFIXES = frozenset({".glb", ".gltf", ".obj", ".ply", ".stl", ".off", ".dae"})
SPLAT_SUFFIXES = frozenset({".splat", ".spz", ".sog"})
ASSET_SUFFIXES = MESH_SUFFIXES | SPLAT_SUFFIXES | {".npz"}
"""With assets as recipes/nano/furniture.py packs them (media/views/packed.py)."""
UNREAD_SUFFIXES = frozenset({".ksplat", ".usdz", ".lcc"})
"""3D files that are refused with the remedy (gaussians/formats/files.py)."""
VIEWS_FILE, SOG_META = "transforms.json", "meta.json"
"""Lists of files that make one asset together: posed views, and an unpacked SOG."""


VIEWS_FILES = frozenset({VIEWS_FILE, *(f"transforms_{split}.json" for split in ("train", "val", "test"))})
"""Names of lists of posed views that are looked for in folders."""


def is_views_file(path: Path) -> bool:
    """Whether a file that is named lists posed views, by its name: one of ``VIEWS_FILES``, or like them."""
    return path.name == VIEWS_FILE or (path.name.startswith("transforms_") and path.suffix == ".json")
