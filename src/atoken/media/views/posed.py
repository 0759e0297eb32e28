"""Posed RGB-D views from a folder: NeRF's ``transforms.json`` as nerfstudio and instant-ngp write it."""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ...core.errors import ReadError, reading
from ...core.text import shortened
from ..image.files import DEFAULT_MAX_PIXELS, read_rgba
from ..image.pillow import blend
from ..suffixes import VIEWS_FILE
from .cameras import Cameras
from .depth import read_depth
from .extent import ROBUST, Extent, cube_of
from .transforms import Frame, FrameFiles, read_frames
from .views import MOST_PIXELS, SIZE, Views

MODELS = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
"""COLMAP's names of cameras that are read: a pinhole, with the distortion that they add."""
DISTORTION = ("k1", "k2", "k3", "p1", "p2")
OTHER_LENSES = ("is_fisheye", "latlong", "equirectangular", "orthographic", "ftheta_p0", "ftheta_p1", "ftheta_p2")
"""By which instant-ngp's files say that a camera is no pinhole."""
UNREAD = ("k4", "k5", "k6", "rolling_shutter", *OTHER_LENSES)
"""Of other cameras: refused unless zero."""
STRAYS = 0.01
"""Share of seen points outside the cube [-0.5, 0.5]^3 up to which the frame of the file is kept."""
LAST_ROW = [0, 0, 0, 1]
FARTHEST = 1e9
"""World units of a camera from the origin, and of a depth."""
CONTRADICTION = 0.02
"""How far an angle may be from that of the focal length beside it; writers round."""
MOST_ANGLE = 175.0
"""Field of view in degrees."""


@dataclass(frozen=True)
class Lens:
    """Intrinsics of one picture in its own pixels, and how it is distorted (Brown-Conrady, as in OpenCV)."""

    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = (0.0,) * len(DISTORTION)

    def undistorted(self, colour: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both as a pinhole with the same intrinsics sees them; nothing where the picture does not reach.

        Colours between four pixels, depths of the nearest.
        """
        if not any(self.distortion):
            return colour, depth
        height, width = depth.shape
        k1, k2, k3, p1, p2 = self.distortion
        y, x = np.meshgrid((np.arange(height) + 0.5 - self.cy) / self.fy, (np.arange(width) + 0.5 - self.cx) / self.fx,
                           indexing="ij")  # fmt: skip
        square = x * x + y * y
        radial = 1 + square * (k1 + square * (k2 + square * k3))
        column = (x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x)) * self.fx + self.cx - 0.5
        row = (y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y) * self.fy + self.cy - 0.5
        inside = (column > -0.5) & (column < width - 0.5) & (row > -0.5) & (row < height - 0.5)
        column, row = np.clip(column, 0, width - 1), np.clip(row, 0, height - 1)
        nearest = np.where(inside, depth[np.rint(row).astype(int), np.rint(column).astype(int)], np.inf)
        left, top = np.floor(column).astype(int), np.floor(row).astype(int)
        right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
        u, v = (column - left)[..., None], (row - top)[..., None]
        mixed = (colour[top, left] * (1 - u) + colour[top, right] * u) * (1 - v)
        mixed = mixed + (colour[bottom, left] * (1 - u) + colour[bottom, right] * u) * v
        return np.where(inside[..., None], mixed.round(), 0).astype(np.uint8), nearest.astype(np.float32)


def read_views(
    source: str | os.PathLike[str],
    *,
    size: int = SIZE,
    extent: Extent = ROBUST,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Views:
    """Posed RGB-D views of a ``transforms.json``, or of the one in a folder: a camera for each of its ``frames``.

    Each frame has ``file_path`` (RGB or RGBA, as stored, whatever its EXIF orientation; alpha 0 is nothing, and so is
    black in the picture ``mask_path``) and ``transform_matrix`` (camera to world, OpenGL
    axes: x right, y up, z backward); in each or once at the top ``fl_x`` (and ``fl_y``, ``cx``, ``cy``, ``w``, ``h``)
    in pixels, or ``camera_angle_x`` (and ``camera_angle_y``) in radians, and the distortion ``k1, k2, k3, p1, p2``,
    which is undone. Depth is the camera's z: see ``depth.read_depth``. Pictures are brought to ``size`` x ``size``,
    with nothing below or beside those that are not square.

    Objects inside the cube [-0.5, 0.5]^3 keep their frame; where more than 1 % of what the views see lies outside, or
    ``extent`` is another than "robust", it is moved there as ``extent`` says.

    Raises ``ReadError`` (one sentence that names the file), or ``OSError`` where a file cannot be opened.
    """
    path = Path(source) / VIEWS_FILE if Path(source).is_dir() else Path(source)
    table, frames = read_frames(path)
    files = FrameFiles(path)
    if len(frames) * size**2 > MOST_PIXELS:
        raise ReadError(f"{path} has {len(frames)} frames, too many at {size} x {size}: take fewer or smaller views")
    w2c, lenses, pictures = [], [], []
    for index, frame in enumerate(frames):
        frame = _whole(table, frame)
        w2c.append(_w2c(frame, index, path))
        colour, depth = _rgbd(files, frame, max_pixels)
        lens = _lens(frame, colour.shape[:2], path)
        colour, depth = lens.undistorted(colour, depth)
        factor = size / max(depth.shape)
        lenses.append([[lens.fx * factor, 0, lens.cx * factor], [0, lens.fy * factor, lens.cy * factor], [0, 0, 1.0]])
        pictures.append(_squared(colour, depth, size))
    colour, depth = (np.stack(parts) for parts in zip(*pictures, strict=True))
    if depth[np.isfinite(depth)].max(initial=0) > FARTHEST:
        raise ReadError(f"{path}: a depth is beyond {FARTHEST:g} world units: is its unit right?")
    if not np.isfinite(depth).any():
        raise ReadError(f"{path}: no view has a depth anywhere, so there is nothing to see")
    cameras = Cameras(torch.tensor(np.array(w2c)).float(), torch.tensor(lenses), (size, size))
    return _fitted(Views(cameras, colour, depth), extent, path)


def _whole(table: Frame, frame: Frame) -> Frame:
    """A frame with what it leaves to the top of the file; its own angle counts before a focal length there."""
    shared = {key: value for key, value in table.items() if key != "frames"}
    for axis in "xy":
        if f"camera_angle_{axis}" in frame and f"fl_{axis}" not in frame:
            shared.pop(f"fl_{axis}", None)
    return {**shared, **frame}


def _number(frame: Frame, key: str, path: Path) -> float | None:
    """A finite number, or None where there is none of that name."""
    value = frame.get(key)
    if value is None:
        return None
    with reading(f"{path}: {key}", "give a number"):
        number = float(value)
    if not math.isfinite(number) or isinstance(value, str):
        raise ReadError(f"{path}: {key} is {shortened(repr(value))}: give a finite number")
    return number


def _w2c(frame: Frame, index: int, path: Path) -> np.ndarray:
    """World to camera in OpenCV's axes, float64 [4, 4]."""
    with reading(f"{path}: transform_matrix of frame {index}", "give 4 x 4 numbers"):
        pose = np.array(frame.get("transform_matrix"), np.float64)
        if pose.shape == (3, 4):
            pose = np.concatenate([pose, [[0, 0, 0, 1]]])
        if pose.shape != (4, 4) or not np.isfinite(pose).all() or np.abs(pose).max() > FARTHEST:
            raise ReadError(f"{path}: transform_matrix of frame {index} must be 4 x 4 finite numbers")
        turn = pose[:3, :3]
        if (
            not np.allclose(turn @ turn.T, np.eye(3), atol=1e-2)
            or np.linalg.det(turn) < 0
            or pose[3].tolist() != LAST_ROW
        ):
            raise ReadError(f"{path}: transform_matrix of frame {index} is no rotation with a shift, as cameras have")
        return np.asarray(np.linalg.inv(pose @ np.diag([1.0, -1.0, -1.0, 1.0])))  # OpenGL's axes to OpenCV's


def _lens(frame: Frame, size: tuple[int, int], path: Path) -> Lens:
    """Intrinsics of a picture of (height, width), whose own numbers may be of another resolution."""
    height, width = size
    model = frame.get("camera_model")
    unread = [key for key in UNREAD if frame.get(key)]
    if unread or model not in (None, *MODELS):
        what = unread[0] if unread else f"camera_model {shortened(repr(model))}"
        raise ReadError(f"{path}: {what} is not read: undistort the pictures (colmap image_undistorter)")
    said = {"w": _number(frame, "w", path) or width, "h": _number(frame, "h", path) or height}
    if not math.isclose(said["w"] * height, said["h"] * width, rel_tol=0.02) or min(said.values()) <= 0:
        raise ReadError(f"{path}: w and h are {said['w']:g} x {said['h']:g}, and a picture is {width} x {height}")
    scale = {"x": width / said["w"], "y": height / said["h"]}
    focal = {}
    for axis, length in (("x", width), ("y", height)):
        pixels, angle = _number(frame, f"fl_{axis}", path), _number(frame, f"camera_angle_{axis}", path)
        if pixels is not None and angle is not None and pixels > 0:
            said_angle = 2 * math.atan(length / 2 / (pixels * scale[axis]))
            if abs(said_angle - angle) > CONTRADICTION * angle:
                warnings.warn(f"{path}: fl_{axis} and camera_angle_{axis} contradict: fl_{axis} counts", stacklevel=3)
        if pixels is None and angle is not None:
            if not 0 < angle <= math.radians(MOST_ANGLE):
                raise ReadError(f"{path}: camera_angle_{axis} is {angle:g} radians: give 0 to {MOST_ANGLE:g} degrees")
            pixels = length / 2 / math.tan(angle / 2) / scale[axis]
        widest = length / 2 / math.tan(math.radians(MOST_ANGLE) / 2) / scale[axis]
        if pixels is not None and not widest * 0.999 <= pixels < 1e9:
            raise ReadError(f"{path}: fl_{axis} is {pixels:g} pixels: of no camera of up to {MOST_ANGLE:g} degrees")
        if pixels is not None:
            focal[axis] = pixels * scale[axis]
    if not focal:
        raise ReadError(f"{path}: a frame has neither fl_x nor camera_angle_x, so its field of view is not known")
    fx, fy = focal.get("x", focal.get("y", 0)), focal.get("y", focal.get("x", 0))
    cx, cy = _number(frame, "cx", path), _number(frame, "cy", path)
    cx, cy = width / 2 if cx is None else cx * scale["x"], height / 2 if cy is None else cy * scale["y"]
    distortion = tuple(_number(frame, key, path) or 0.0 for key in DISTORTION)
    if max(map(abs, distortion)) > 10 or abs(cx) > 1e6 or abs(cy) > 1e6:
        raise ReadError(f"{path}: cx, cy or the distortion of a frame are of no camera: {cx:g}, {cy:g}, {distortion}")
    return Lens(fx, fy, cx, cy, distortion)


def _rgbd(files: FrameFiles, frame: Frame, max_pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Colour uint8 [H, W, 3] over black and depth float32 [H, W] of one frame, infinity where there is nothing."""
    picture = Path(files.picture(frame))
    rgba = read_rgba(picture, max_pixels=max_pixels)
    colour = blend(rgba[..., :3], rgba[..., 3], (0, 0, 0))
    height, width = colour.shape[:2]
    file = Path(files.depth(frame, str(picture)))
    if not file.exists():
        raise FileNotFoundError(2, f"missing, the depth of {picture.name} ({files.table.name}: depth_path)", str(file))
    depth = read_depth(file, frame, files.table, max_pixels)
    if not math.isclose(depth.shape[0] * width, depth.shape[1] * height, rel_tol=0.02):
        shapes = f"{depth.shape[1]} x {depth.shape[0]}, its picture {width} x {height}"
        raise ReadError(f"{file} is {shapes}: a depth needs the shape of its picture")
    depth = np.where(rgba[..., 3] > 0, _nearest(depth, height, width), np.float32(np.inf))
    mask = files.mask(frame)
    if mask is not None:
        kept = read_rgba(mask, max_pixels=max_pixels)[..., :3].max(2)
        depth = np.where(_nearest(kept, height, width) > 127, depth, np.float32(np.inf))
    return colour, depth


def _nearest(depth: np.ndarray, height: int, width: int) -> np.ndarray:
    """Depths at another resolution: those of the nearest pixels, as they do not mix across an edge."""
    rows = (np.arange(height) + 0.5) * depth.shape[0] / height
    columns = (np.arange(width) + 0.5) * depth.shape[1] / width
    return depth[rows.astype(int)][:, columns.astype(int)]


def _squared(colour: np.ndarray, depth: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Both [size, size]: nothing is added below or to the right, which leaves the principal point where it is."""
    height, width = depth.shape
    side = max(height, width)
    below = ((0, side - height), (0, side - width))
    colour = np.pad(colour, (*below, (0, 0)))
    depth = np.pad(depth, below, constant_values=np.inf)
    colour = np.asarray(Image.fromarray(colour).resize((size, size), Image.Resampling.BOX))
    return colour, _nearest(depth, size, size)


def _fitted(views: Views, extent: Extent, path: Path) -> Views:
    points = views.points().numpy()
    if not np.isfinite(points).all():
        raise ReadError(f"{path}: cameras and depths lead to points beyond all numbers: are their units right?")
    outside = float((np.abs(points) > 0.5 + 1e-4).any(1).mean())
    if extent == ROBUST and outside <= STRAYS:
        return views
    centre, side = cube_of(points, np.ones(len(points)), extent, path, "seen points")
    if side <= 0:
        raise ReadError(f"{path}: all that the views see lies in one point, so there is no size to scale by")
    if extent == ROBUST:
        moved = f"so all of it is moved and scaled by 1/{side:.4g} to fit"
        warnings.warn(f"{path}: {outside:.0%} of what is seen lies outside [-0.5, 0.5]^3, {moved}", stacklevel=3)
    w2c = views.cameras.w2c.double()
    middle = torch.from_numpy(centre)
    w2c[:, :3, 3] = (w2c[:, :3, :3] @ middle + w2c[:, :3, 3]) / side
    cameras = Cameras(w2c.float(), views.cameras.intrinsics, views.cameras.size)
    matrix = np.diag([side, side, side, 1.0])
    matrix[:3, 3] = centre
    depth = (views.depth / side).astype(np.float32)
    return replace(views, cameras=cameras, depth=depth, transform=tuple(map(tuple, matrix.tolist())))
