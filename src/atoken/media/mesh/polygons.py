"""Polygons to triangles: convex ones as fans, others by ear clipping."""

from __future__ import annotations

import numpy as np


def triangles_of(counts: np.ndarray, corners: np.ndarray, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangles of polygons with ``counts`` [P] corners each, one behind the other in ``corners`` [C] (vertex numbers).

    Returns places in ``corners``, int64 [F, 3], and each triangle's polygon, int64 [F]. Polygons of fewer than three
    corners have none. ``vertices`` is [V, 3]; the numbers in ``corners`` must be of it.
    """
    starts = np.cumsum(counts) - counts
    places, owners = [np.zeros((0, 3), np.int64)], [np.zeros(0, np.int64)]
    for count in np.unique(counts[counts >= 3]):
        which = np.flatnonzero(counts == count)
        ring = starts[which, None] + np.arange(count)  # [m, count]
        fan = np.stack([np.zeros(count - 2, np.int64), np.arange(1, count - 1), np.arange(2, count)], 1)
        if count == 3:
            places.append(ring)
            owners.append(which)
            continue
        points = vertices[corners[ring]].astype(np.float64)
        convex = _is_convex(points)
        places.append(ring[convex][:, fan].reshape(-1, 3))
        owners.append(np.repeat(which[convex], count - 2))
        for index in np.flatnonzero(~convex):
            ears = _ears(points[index], fan)
            places.append(ring[index][ears])
            owners.append(np.full(len(ears), which[index]))
    place, owner = np.concatenate(places), np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    return place[order], owner[order]


def _normals(points: np.ndarray) -> np.ndarray:
    """Normals of polygons [m, n, 3], as long as their areas (Newell): [m, 3]."""
    around = points - points[:, :1]  # less is lost far from the origin
    return np.cross(around, np.roll(around, -1, 1)).sum(1) / 2


def _is_convex(points: np.ndarray) -> np.ndarray:
    """Which of the polygons [m, n, 3] turn one way at every corner, bool [m]."""
    edges = np.roll(points, -1, 1) - points
    turns = (np.cross(np.roll(edges, 1, 1), edges) * _normals(points)[:, None]).sum(2)
    slack = 1e-9 * np.abs(turns).max(1, keepdims=True)
    return np.asarray((turns >= -slack).all(1))


def _ears(points: np.ndarray, fan: np.ndarray) -> np.ndarray:
    """Triangles of one polygon [n, 3] as numbers of its corners [f, 3]; ``fan`` where it has no plane."""
    import mapbox_earcut

    normal = _normals(points[None])[0]
    dropped = int(np.abs(normal).argmax())
    if not normal[dropped]:
        return fan
    flat = np.ascontiguousarray(np.delete(points - points[0], dropped, 1))
    ears = mapbox_earcut.triangulate_float64(flat, np.array([len(flat)], np.uint32)).reshape(-1, 3)
    if not len(ears):
        return fan
    a, b, c = points[ears].swapaxes(0, 1)
    turned = np.cross(b - a, c - a).sum(0) @ normal < 0
    return (ears[:, ::-1] if turned else ears).astype(np.int64)
