"""Cameras: where they stand and how they project. OpenCV axes: x right, y down, z into the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CUBE_RADIUS = math.sqrt(3) / 2
"""Radius of the sphere around the cube [-0.5, 0.5]^3."""


@dataclass(frozen=True)
class Cameras:
    """V pinhole cameras with pictures of one size.

    A point p in front of a camera appears at pixel ``(fx x / z + cx, fy y / z + cy)`` where (x, y, z) = w2c p; the
    centre of the top left pixel is (0.5, 0.5). Raises ``ValueError`` where shapes do not fit.
    """

    w2c: Tensor
    """fp32 [V, 4, 4], world to camera."""
    intrinsics: Tensor
    """fp32 [V, 3, 3] in pixels: [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]."""
    size: tuple[int, int]
    """Height and width of the pictures in pixels."""

    def __post_init__(self) -> None:
        count = len(self.w2c)
        if self.w2c.shape != (count, 4, 4) or self.intrinsics.shape != (count, 3, 3) or min(self.size) < 1:
            raise ValueError(
                f"cameras need w2c [V, 4, 4], intrinsics [V, 3, 3] and a size in pixels, not "
                f"{list(self.w2c.shape)}, {list(self.intrinsics.shape)} and {self.size}"
            )

    def __len__(self) -> int:
        return len(self.w2c)

    def __getitem__(self, index: slice | Sequence[int]) -> Cameras:
        """Some of the cameras."""
        picked = index if isinstance(index, slice) else list(index)
        return Cameras(self.w2c[picked], self.intrinsics[picked], self.size)

    @property
    def positions(self) -> Tensor:
        """Where the cameras stand, fp32 [V, 3]."""
        rotation, translation = self.w2c[:, :3, :3], self.w2c[:, :3, 3]
        return -(rotation.transpose(1, 2) @ translation[:, :, None])[:, :, 0]

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels [V, P, 2] = (column, row) and camera depths z [V, P] of world points [P, 3]."""
        local = points @ self.w2c[:, :3, :3].transpose(1, 2) + self.w2c[:, None, :3, 3]  # [V, P, 3]
        image = local @ self.intrinsics.transpose(1, 2)
        return image[..., :2] / image[..., 2:], local[..., 2]

    def rays(self) -> tuple[Tensor, Tensor]:
        """World origins [V, 3] and directions [V, H, W, 3] through the pixels' centres, one unit of depth long."""
        height, width = self.size
        rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        pixels = torch.stack([columns, rows, torch.ones_like(rows)], -1)  # [H, W, 3]
        local = pixels @ torch.linalg.inv(self.intrinsics)[:, None].transpose(2, 3)  # [V, H, W, 3]
        return self.positions, local @ self.w2c[:, None, :3, :3]


def hammersley_sphere(
    count: int,
    *,
    fov: float = 40.0,
    size: int = 256,
    distance: float | None = None,
    offset: float = 0.0,
) -> Cameras:
    """``count`` cameras spread evenly on a sphere about the origin, looking at it (Hammersley points).

    fov: field of view in degrees, both ways. size: side of the square pictures in pixels. distance: by default where
    the cube [-0.5, 0.5]^3 just fits. offset: 0 to below 1, turns and lifts all points, for views that no other set
    has. Raises ``ValueError`` for numbers that make no cameras.
    """
    if count < 1 or size < 1 or not 0 < fov < 180 or not 0 <= offset < 1:
        raise ValueError(f"{count} cameras of {size} pixels, {fov} degrees, offset {offset} cannot be")
    steps = [((i + 0.25 + offset / 2) / count, _radical_inverse(i) + offset) for i in range(count)]
    heights = torch.tensor([1 - 2 * u for u, _ in steps], dtype=torch.float64)
    turns = torch.tensor([2 * math.pi * v for _, v in steps], dtype=torch.float64)
    ring = (1 - heights.square()).sqrt()
    directions = torch.stack([ring * turns.sin(), heights, ring * turns.cos()], 1)  # y up
    return orbit(directions, fov=fov, size=size, distance=distance)


def turntable(
    count: int, *, elevation: float = 20.0, fov: float = 40.0, size: int = 256, distance: float | None = None
) -> Cameras:
    """``count`` cameras on a circle about the y axis, ``elevation`` degrees above the horizon, seeing the origin."""
    turns = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
    up = math.radians(elevation)
    directions = torch.stack(
        [math.cos(up) * turns.sin(), torch.full_like(turns, math.sin(up)), math.cos(up) * turns.cos()], 1
    )
    return orbit(directions, fov=fov, size=size, distance=distance)


def orbit(directions: Tensor, *, fov: float, size: int, distance: float | None = None) -> Cameras:
    """Cameras at ``distance`` from the origin in ``directions`` [V, 3] of unit length, looking at it, y up."""
    distance = distance or CUBE_RADIUS / math.sin(math.radians(fov) / 2)
    backward = directions.double()
    up = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64).expand_as(backward)
    aside = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)  # what is up in the picture when looking straight down
    up = torch.where((backward[:, 1:2].abs() > 1 - 1e-9), aside.expand_as(up), up)
    right = torch.nn.functional.normalize(torch.linalg.cross(up, backward), dim=1)
    down = torch.linalg.cross(right, backward)
    w2c = torch.eye(4, dtype=torch.float64).repeat(len(backward), 1, 1)
    w2c[:, :3, :3] = torch.stack([right, down, -backward], 1)
    w2c[:, 2, 3] = distance
    focal = size / 2 / math.tan(math.radians(fov) / 2)
    intrinsics = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    return Cameras(w2c.float(), intrinsics.repeat(len(backward), 1, 1), (size, size))


def _radical_inverse(index: int) -> float:
    """Bits of ``index`` mirrored behind the point (van der Corput, base 2)."""
    value, scale = 0.0, 0.5
    while index:
        value += scale * (index & 1)
        index >>= 1
        scale /= 2
    return value
