"""Pictures of an asset with their depths, rendered by ray casting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ...tokens.patch import PATCH
from ..mesh import Asset
from ..mesh.light import NONE, check_light, light_of, normals_of, shade
from .cameras import Cameras, hammersley_sphere
from .extent import ROBUST, Extent, check_extent, fitted

VIEWS, FOV, SIZE = 16, 40.0, 256
MOST_FOV, MOST_PIXELS = 80.0, 2**25
CHOICES = ("visible", "nearest")
DISTANCE = 2.0
"""From the cameras to the centre of the unit cube; corners of a full cube may lie outside views that face an edge."""
MOST_LAYERS = 8
"""Holes behind one another that a ray looks through."""
HOLE = -2
STEP = 1e-5
"""How far behind a hole a ray goes on, in edges of the unit cube."""


@dataclass(frozen=True)
class ViewOptions:
    """How an asset is looked at. Raises ``ValueError`` for what cannot be.

    The cameras stand so that a narrower or wider field of view shows as much of the asset.
    """

    views: int = VIEWS
    size: int = SIZE
    """Side of the square pictures in pixels."""
    fov: float = FOV
    """Field of view in degrees."""
    choice: str = CHOICES[0]
    """Which view a voxel takes its patch from: see ``Views.choice``."""
    extent: Extent = ROBUST
    """What fills the unit cube: "robust", all but what lies far off; "full", everything; or the side of a cube in the
    asset's own units about its middle. A warning says what is left outside."""
    light: str | None = None
    """"none", "head" (from the camera) or "studio" (from fixed directions, so that every view agrees); None is "studio"
    for a mesh without colours of its own, else "none"."""

    def __post_init__(self) -> None:
        if self.views < 1 or self.size < PATCH[1] or self.views * self.size**2 > MOST_PIXELS:
            raise ValueError(
                f"{self.views} views of {self.size} x {self.size} pixels cannot be: give at least 1 of {PATCH[1]}, and "
                f"at most {MOST_PIXELS} pixels in all"
            )
        if not 1 <= self.fov <= MOST_FOV:
            raise ValueError(f"a field of view of {self.fov:g} degrees cannot be: give 1 to {MOST_FOV:g}")
        if self.choice not in CHOICES:
            raise ValueError(f"patches cannot be of the {self.choice!r} view: give one of {', '.join(CHOICES)}")
        check_extent(self.extent)
        check_light(self.light)

    def cameras(self) -> Cameras:
        """On a sphere about the asset."""
        distance = DISTANCE * math.tan(math.radians(FOV) / 2) / math.tan(math.radians(self.fov) / 2)
        return hammersley_sphere(self.views, fov=self.fov, size=self.size, distance=distance)


DEFAULT = ViewOptions()


@dataclass(frozen=True)
class Views:
    """V pictures of one asset inside the cube [-0.5, 0.5]^3."""

    modality: ClassVar[str] = "3d"

    cameras: Cameras
    colour: np.ndarray
    """uint8 [V, H, W, 3], sRGB, black where there is nothing."""
    depth: np.ndarray
    """float32 [V, H, W], camera depth z; infinity where there is nothing."""
    transform: tuple[tuple[float, ...], ...] | None = None
    """4 x 4 matrix from the unit cube to the asset's own frame, where known."""
    choice: str = CHOICES[0]
    """Which view a voxel takes its patch from: "nearest", the one with the least camera depth, whatever stands
    between, as in the released code; or "visible", the one with the least depth among those that see the voxel (all,
    where none does)."""
    light: str = NONE
    """What the colours are seen in, see ``ViewOptions.light``."""

    @property
    def mask(self) -> np.ndarray:
        """Where there is something, bool [V, H, W]."""
        return np.isfinite(self.depth)

    def points(self) -> Tensor:
        """All surface points that the views see, fp32 [P, 3]."""
        origins, directions = self.cameras.rays()
        depth = torch.from_numpy(self.depth)
        seen = torch.isfinite(depth)
        view = seen.nonzero()[:, 0]
        return origins[view] + directions[seen] * depth[seen][:, None]


def render_views(
    asset: Asset, cameras: Cameras | None = None, *, extent: Extent = ROBUST, light: str | None = None
) -> Views:
    """Colour and depth of ``asset``, one ray through each pixel's centre.

    By default from 16 cameras on a sphere of radius 2, 40 degrees wide, 256 x 256 pixels; ``extent`` and ``light`` are
    those of ``ViewOptions``. Needs the extra ``mesh``. Raises ``ValueError`` where all of the surface is transparent.
    """
    cameras = cameras or DEFAULT.cameras()
    asset = fitted(asset, extent)
    light = light_of(asset, light)
    if asset.is_cloud:
        return _splat_points(asset, cameras)
    try:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene
    except ImportError:
        raise ValueError("rendering meshes needs: pip install 'atoken[mesh]'") from None
    scene = EmbreeScene()
    _keep = TriangleMesh(scene, asset.vertices, asset.faces)
    density, normals = _texel_density(asset), normals_of(asset)
    origins, directions = (tensor.numpy() for tensor in cameras.rays())
    height, width = cameras.size
    colour = np.zeros((len(cameras), height, width, 3), np.uint8)
    depth = np.full((len(cameras), height, width), np.inf, np.float32)
    struck = False
    for view in range(len(cameras)):
        focal = float(cameras.intrinsics[view, 0, 0])
        flat = directions[view].reshape(-1, 3)
        starts = np.broadcast_to(origins[view], flat.shape).copy()
        rgb, far, face = _trace(scene, asset, density / focal, starts, flat)
        if light != NONE:
            hit = face >= 0
            lit = rgb[hit] * shade(light, normals[face[hit]], flat[hit])[:, None]
            rgb[hit] = lit.round().astype(np.uint8)
        struck |= bool((face >= 0).any() | (face == HOLE).any())
        colour[view], depth[view] = rgb.reshape(height, width, 3), far.reshape(height, width)
    if struck and not np.isfinite(depth).any():
        raise ValueError(f"{asset.name}: all of it is transparent (its alpha is below what counts as surface)")
    return Views(cameras, colour, depth, asset.transform, light=light)


def _trace(
    scene: Any, asset: Asset, density: np.ndarray, origins: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colour uint8 [n, 3], depth [n] and face [n] of rays; ``density`` [F] times depth are the texels of a pixel.

    The face is -1 where a ray meets nothing, and ``HOLE`` where it meets holes alone.
    """
    colour = np.zeros((len(origins), 3), np.uint8)
    depth = np.full(len(origins), np.inf, np.float32)
    faces = np.full(len(origins), -1)
    rays, passed = np.arange(len(origins)), np.zeros(len(origins), np.float32)
    see_through = any(material.cutoff is not None for material in asset.materials)
    for _ in range(MOST_LAYERS if see_through else 1):
        start = origins[rays] + directions[rays] * passed[rays, None]
        hit = scene.run(start, directions[rays], output=True)
        found = hit["primID"] >= 0
        rays, face = rays[found], hit["primID"][found]
        far = hit["tfar"][found] + passed[rays]
        rgba = _colours(asset, face, hit["u"][found], hit["v"][found], density[face] * far)
        solid = rgba[:, 3] >= 0
        colour[rays[solid]] = np.clip(rgba[solid, :3] * 255, 0, 255).round().astype(np.uint8)
        depth[rays[solid]] = far[solid]
        faces[rays] = np.where(solid, face, HOLE)
        rays, far = rays[~solid], far[~solid]
        if not len(rays):
            break
        passed[rays] = far + STEP
    return colour, depth, faces


def _colours(asset: Asset, face: np.ndarray, u: np.ndarray, v: np.ndarray, texels: np.ndarray) -> np.ndarray:
    """Colours float32 [n, 4] at barycentric (u, v) of faces; alpha is 1, or -1 where there is a hole."""
    weights = np.stack([1 - u - v, u, v], 1)[:, :, None]  # [n, 3, 1]
    uv = (asset.uv[face] * weights).sum(1)
    most = np.iinfo(asset.colours.dtype).max
    tint = (asset.colours[asset.faces[face]] * weights).sum(1).astype(np.float32) / most
    result = np.ones((len(face), 4), np.float32)
    owner = asset.face_material[face]
    for index in np.unique(owner):
        at, material = owner == index, asset.materials[index]
        sampled = material.sample(uv[at], texels[at], tint[at])
        hole = np.zeros(len(sampled), bool) if material.cutoff is None else sampled[:, 3] < material.cutoff
        result[at, :3], result[at, 3] = sampled[:, :3], np.where(hole, -1, 1)
    return result


def _texel_density(asset: Asset) -> np.ndarray:
    """Texels of the full texture along a unit of length on each face, float32 [F]."""
    sizes = np.array([max(m.mips[0].shape[:2]) if m.mips else 0 for m in asset.materials], np.float32)
    if not sizes.any():
        return np.zeros(len(asset.faces), np.float32)
    corners = asset.vertices[asset.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    a, b = asset.uv[:, 1] - asset.uv[:, 0], asset.uv[:, 2] - asset.uv[:, 0]
    uv_area = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    return np.sqrt(uv_area / np.maximum(area, 1e-20)).astype(np.float32) * sizes[asset.face_material]


def _splat_points(asset: Asset, cameras: Cameras, edge: float = 1 / 64) -> Views:
    """Points drawn as squares of ``edge`` units (a voxel), the nearest in front."""
    height, width = cameras.size
    pixels, depths = cameras.project(torch.from_numpy(asset.vertices))
    colour = np.zeros((len(cameras), height * width, 3), np.uint8)
    depth = np.full((len(cameras), height * width), np.inf, np.float32)
    reach = max(1, math.ceil(float(cameras.intrinsics[0, 0, 0]) * edge / float(depths.median()) / 2))
    shifts = [(dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)]
    for view in range(len(cameras)):
        z, spot = depths[view].numpy(), np.floor(pixels[view].numpy()).astype(int)
        order = np.argsort(-z, kind="stable")  # far ones first, so that near ones are written last
        for dy, dx in shifts:
            x, y = spot[order, 0] + dx, spot[order, 1] + dy
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (z[order] > 0)
            index, points = y[inside] * width + x[inside], order[inside]
            nearest = np.full(height * width, -1)
            nearest[index] = points
            drawn = np.flatnonzero(nearest >= 0)
            nearer = drawn[z[nearest[drawn]] < depth[view][drawn]]
            depth[view][nearer] = z[nearest[nearer]]
            colour[view][nearer] = asset.colours[nearest[nearer], :3]
    shape = (len(cameras), height, width)
    return Views(cameras, colour.reshape(*shape, 3), depth.reshape(shape), asset.transform)
