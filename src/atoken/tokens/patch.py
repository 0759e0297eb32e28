"""The patch that one token stands for, the kinds of tokens, and where spatial tiles cut a grid."""

from __future__ import annotations

from collections.abc import Sequence

PATCH = (4, 16, 16)
"""Frames, rows and columns of one patch."""
FRAME_FEATURES = PATCH[1] * PATCH[2] * 3
"""Numbers of one frame of a patch (768): all that images and voxels use."""
PATCH_FEATURES = PATCH[0] * FRAME_FEATURES
"""Numbers of one patch, in the order (frame, row, column, RGB): 3072."""
KINDS = ("continuous", "discrete")


def parts_of(patches: int, tile: int | None) -> int:
    """Into how many parts tiles of ``tile`` pixels cut a row of ``patches``: so that their length is nearest to it."""
    return 1 if tile is None else max(1, (2 * patches * PATCH[1] + tile) // (2 * tile))


def spatial_tile_of(grid: Sequence[int], tile: int | None) -> int | None:
    """``tile`` where it cuts the grid (t, x, y, z) at all, else None: what the header of tokens says."""
    return tile if max(parts_of(patches, tile) for patches in grid[1:3]) > 1 else None
