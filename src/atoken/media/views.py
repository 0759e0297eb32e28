"""Pictures of an asset with their depths: rendered by ray casting, or read from a folder of posed RGB-D views."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..config import PATCH
from ..render.cameras import Cameras, hammersley_sphere
from .image import read_image
from .mesh import Asset

VIEWS, FOV, SIZE = 16, 40.0, 256
MOST_FOV, MOST_PIXELS = 80.0, 2**25
CHOICES = ("visible", "nearest")
DISTANCE = 2.0
"""From the cameras to the centre of the unit cube; corners of a full cube may lie outside views that face an edge."""
MOST_LAYERS = 8
"""Holes behind one another that a ray looks through."""
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


def render_views(asset: Asset, cameras: Cameras | None = None) -> Views:
    """Colour and depth of ``asset``, one ray through each pixel's centre, without light.

    By default from 16 cameras on a sphere of radius 2, 40 degrees wide, 256 x 256 pixels. Needs the extra ``mesh``.
    """
    cameras = cameras or DEFAULT.cameras()
    if asset.is_cloud:
        return _splat_points(asset, cameras)
    try:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene
    except ImportError:
        raise ValueError("rendering meshes needs: pip install 'atoken[mesh]'") from None
    scene = EmbreeScene()
    _keep = TriangleMesh(scene, asset.vertices, asset.faces)
    density = _texel_density(asset)
    origins, directions = (tensor.numpy() for tensor in cameras.rays())
    height, width = cameras.size
    colour = np.zeros((len(cameras), height, width, 3), np.uint8)
    depth = np.full((len(cameras), height, width), np.inf, np.float32)
    for view in range(len(cameras)):
        focal = float(cameras.intrinsics[view, 0, 0])
        flat = directions[view].reshape(-1, 3)
        rgb, far = _trace(scene, asset, density / focal, np.broadcast_to(origins[view], flat.shape).copy(), flat)
        colour[view], depth[view] = rgb.reshape(height, width, 3), far.reshape(height, width)
    return Views(cameras, colour, depth, asset.transform)


def _trace(
    scene: Any, asset: Asset, density: np.ndarray, origins: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Colour uint8 [n, 3] and depth [n] of rays; ``density`` [F] times depth are the texels that a pixel covers."""
    colour = np.zeros((len(origins), 3), np.uint8)
    depth = np.full(len(origins), np.inf, np.float32)
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
        rays, far = rays[~solid], far[~solid]
        if not len(rays):
            break
        passed[rays] = far + STEP
    return colour, depth


def _colours(asset: Asset, face: np.ndarray, u: np.ndarray, v: np.ndarray, texels: np.ndarray) -> np.ndarray:
    """Colours float32 [n, 4] at barycentric (u, v) of faces; alpha is 1, or -1 where there is a hole."""
    weights = np.stack([1 - u - v, u, v], 1)[:, :, None]  # [n, 3, 1]
    uv = (asset.uv[face] * weights).sum(1)
    tint = (asset.colours[asset.faces[face]] * weights).sum(1).astype(np.float32) / 255
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


def read_views(folder: str | os.PathLike[str], *, size: int = SIZE) -> Views:
    """Posed RGB-D views: a folder with a NeRF-style ``transforms.json``, in which the object fills [-0.5, 0.5]^3.

    Each frame has ``file_path`` (RGB or RGBA; alpha 0 is nothing), ``transform_matrix`` (camera to world, OpenGL axes:
    x right, y up, z backward) and ``camera_angle_x`` in radians (or one for all at the top). Depth is the camera's z:
    ``depth_path`` or NAME_depth.png beside the picture; a PNG of 16 bits spans the frame's ``depth``: {"min", "max"},
    an .npy file holds world units, 0 or infinity being nothing. Pictures are brought to ``size`` x ``size``. Raises
    ``ValueError`` or ``FileNotFoundError`` with one sentence.
    """
    folder = Path(folder)
    try:
        table = json.loads((folder / "transforms.json").read_text())
        frames = table["frames"]
        poses = np.array([frame["transform_matrix"] for frame in frames], np.float64)
        angles = [float(frame.get("camera_angle_x", table.get("camera_angle_x"))) for frame in frames]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / 'transforms.json'} is not a list of posed frames ({error!r})") from None
    if len(frames) == 0:
        raise ValueError(f"{folder / 'transforms.json'} has no frames")
    if poses.shape[1:] != (4, 4) or not np.isfinite(poses).all():
        raise ValueError(f"{folder / 'transforms.json'}: transform_matrix must be 4 x 4 numbers for every frame")
    try:
        pictures = [_rgbd(folder, frame, size) for frame in frames]
    except (KeyError, TypeError, UnidentifiedImageError) as error:
        raise ValueError(f"{folder / 'transforms.json'}: a frame lacks or misnames its pictures ({error!r})") from None
    flip = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenGL axes to OpenCV's
    w2c = torch.from_numpy(np.linalg.inv(poses @ flip)).float()
    focal = torch.tensor([size / 2 / math.tan(angle / 2) for angle in angles])
    intrinsics = torch.tensor([[0, 0, size / 2], [0, 0, size / 2], [0, 0, 1.0]]).repeat(len(focal), 1, 1)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
    colour, depth = (np.stack(parts) for parts in zip(*pictures, strict=True))
    if not np.isfinite(depth).any():
        raise ValueError(f"{folder}: no view has a finite depth")
    return Views(Cameras(w2c, intrinsics, (size, size)), colour, depth)


def _inside(folder: Path, name: str) -> Path:
    """The file ``name`` of ``folder``. Raises ``ValueError`` where it lies elsewhere."""
    path = folder / name
    if not Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder)):
        raise ValueError(f"{folder / 'transforms.json'} refers to {name!r}, outside its folder: refused")
    return path


def _rgbd(folder: Path, frame: dict[str, Any], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Colour uint8 [size, size, 3] over black and depth float32 [size, size] of one frame."""
    path = _inside(folder, frame["file_path"])
    path = path if path.suffix else path.with_suffix(".png")
    colour = read_image(path, background=(0, 0, 0))
    if colour.shape[0] != colour.shape[1]:
        raise ValueError(f"{path} is not square: {colour.shape[1]} x {colour.shape[0]}")
    colour = np.asarray(Image.fromarray(colour).resize((size, size), Image.Resampling.BOX))
    depth_path = _inside(folder, frame.get("depth_path", f"{Path(frame['file_path']).with_suffix('')}_depth.png"))
    if depth_path.suffix == ".npy":
        depth = np.load(depth_path, allow_pickle=False).astype(np.float32)
    else:
        with Image.open(depth_path) as image:
            raw = np.asarray(image, np.float32)
        low, high = float(frame["depth"]["min"]), float(frame["depth"]["max"])
        depth = np.where((raw > 0) & (raw < 65535), low + raw / 65535 * (high - low), np.inf).astype(np.float32)
    rows = (np.arange(size) + 0.5) * depth.shape[0] / size
    columns = (np.arange(size) + 0.5) * depth.shape[1] / size
    depth = depth[rows.astype(int)][:, columns.astype(int)]  # the nearest: depths do not mix across an edge
    return colour, np.where(depth > 0, depth, np.inf).astype(np.float32)
