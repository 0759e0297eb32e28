"""What of an asset fills the unit cube: all of it, a cube of given side, or all but what lies far off."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from ..mesh import Asset

ROBUST, FULL = "robust", "full"
TAIL = 0.025
"""Share of the weight at each end of an axis that says nothing about the size of the whole."""
MARGIN = 1.0
"""How far beyond the range of the rest something may lie and still belong to it, in longest sides of that range."""

NEAR = 1.1
"""Side of the cube beyond which nothing is drawn where something is left outside."""

Extent = str | float
"""``ROBUST``, ``FULL``, or the side of a cube in the asset's own units."""


def check_extent(extent: Extent) -> None:
    """Raise ``ValueError`` unless ``extent`` is one."""
    if isinstance(extent, str):
        if extent not in (ROBUST, FULL):
            raise ValueError(f"an extent cannot be {extent!r}: give {ROBUST}, {FULL}, or a side in the asset's units")
    elif not 0 < extent < np.inf:
        raise ValueError(f"an extent cannot be {extent:g}: give {ROBUST}, {FULL}, or a side in the asset's units")


def cube_of(
    points: np.ndarray, weights: np.ndarray, extent: Extent, name: object, what: str
) -> tuple[np.ndarray, float]:
    """Centre float64 [3] and side of the cube that ``extent`` means for points [N, 3] of ``weights`` [N].

    ``ROBUST`` is the box of all points but those farther than ``MARGIN`` from where the middle 95 % of the weight lie,
    so that it is the full box of everything without strays. Where points are left outside a warning says how many
    ``what``. A side of 0 is the caller's to refuse.
    """
    points = points.astype(np.float64)
    low, high = points.min(0), points.max(0)
    if extent != FULL:
        inner = np.array([_middle(points[:, axis], weights) for axis in range(3)])
        margin = MARGIN * float((inner[:, 1] - inner[:, 0]).max())
        kept = ((points >= inner[:, 0] - margin) & (points <= inner[:, 1] + margin)).all(1)
        low, high = points[kept].min(0), points[kept].max(0)
    centre = (low + high) / 2
    side = float((high - low).max()) if isinstance(extent, str) else float(extent)
    outside = int((np.abs(points - centre) > side / 2 * (1 + 1e-6)).any(1).sum())
    if outside:
        middle = ", ".join(f"{value:.4g}" for value in centre)
        warnings.warn(
            f"{name}: {outside} of {len(points)} {what} lie outside the cube of side {side:.4g} about ({middle}) that "
            f"becomes tokens; extent {FULL!r} takes all of them",
            stacklevel=4,
        )
    return centre, side


def fitted(asset: Asset, extent: Extent) -> Asset:
    """The mesh or point cloud, which fills the unit cube whole, moved and scaled so that it does as ``extent`` says."""
    if extent == FULL:
        return asset
    corners = asset.vertices[asset.faces].astype(np.float64)  # [F, 3, 3]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    weights = np.full(len(asset.vertices), float(asset.is_cloud))
    np.add.at(weights, asset.faces.ravel(), area.repeat(3))
    used = np.flatnonzero(weights > 0)
    if not len(used):
        return asset
    unit = np.array(asset.transform, np.float64)
    side_of_all = float(np.cbrt(abs(np.linalg.det(unit[:3, :3])))) if asset.transform else 1.0
    own = extent if isinstance(extent, str) else extent / side_of_all
    what = "points" if asset.is_cloud else "vertices"
    centre, side = cube_of(asset.vertices[used], weights[used], own, asset.name, what)
    if side <= 0 or (abs(side - 1) < 1e-5 and np.abs(centre).max() < 1e-5):
        return asset
    move = np.eye(4)
    move[:3, :3] *= side
    move[:3, 3] = centre
    transform = (unit @ move).tolist() if asset.transform else move.tolist()
    vertices = ((asset.vertices - centre) / side).astype(np.float32)
    placed = replace(asset, vertices=vertices, transform=tuple(map(tuple, transform)))
    return _inside(placed)


def _inside(asset: Asset) -> Asset:
    """Without the faces or points that lie wholly outside of the cube, which would only stand in the way."""
    if asset.is_cloud:
        kept = (np.abs(asset.vertices) <= NEAR / 2).all(1)
        return replace(asset, vertices=asset.vertices[kept], colours=asset.colours[kept])
    corners = asset.vertices[asset.faces]  # [F, 3, 3]
    kept = ((corners.min(1) <= NEAR / 2) & (corners.max(1) >= -NEAR / 2)).all(1)
    return replace(asset, faces=asset.faces[kept], face_material=asset.face_material[kept], uv=asset.uv[kept])


def _middle(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Between which numbers all but ``TAIL`` of the weight at each end lies."""
    order = values.argsort(kind="stable")
    share = np.cumsum(weights[order].astype(np.float64))
    first = np.searchsorted(share, TAIL * share[-1])
    last = np.searchsorted(share, (1 - TAIL) * share[-1])
    return float(values[order[first]]), float(values[order[min(last, len(order) - 1)]])
