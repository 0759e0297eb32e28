"""Cameras: right-handed, looking at the origin, rays and projection inverses."""

from __future__ import annotations

import math

import pytest
import torch

from atoken.media.views.cameras import CUBE_RADIUS, Cameras, hammersley_sphere, orbit, turntable
from refusals import refused


@pytest.mark.parametrize("cameras", [hammersley_sphere(24), turntable(7), hammersley_sphere(5, offset=0.5, fov=70)])
def test_they_look_at_the_origin_the_right_way_up(cameras):
    rotation = cameras.w2c[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), torch.eye(3).expand_as(rotation))
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(len(cameras)))
    pixels, depth = cameras.project(torch.tensor([[0.0, 0, 0], [0, 0.1, 0]]))
    centre = torch.tensor([cameras.size[1] / 2, cameras.size[0] / 2])
    torch.testing.assert_close(pixels[:, 0], centre.expand(len(cameras), 2), atol=1e-3, rtol=0)
    torch.testing.assert_close(depth[:, 0], cameras.positions.norm(dim=1))
    assert (pixels[:, 1, 1] < pixels[:, 0, 1]).all()  # up in the world is up in the picture


def test_a_camera_in_front_sees_x_to_the_right():
    front = orbit(torch.tensor([[0.0, 0, 1]]), fov=90, size=100, distance=2)
    pixels, depth = front.project(torch.tensor([[0.5, 0.25, 0.0]]))
    torch.testing.assert_close(pixels[0, 0], torch.tensor([50 + 12.5, 50 - 6.25]))
    assert depth.item() == pytest.approx(2)
    torch.testing.assert_close(front.positions[0], torch.tensor([0.0, 0, 2]))


def test_rays_go_through_what_the_pixels_show():
    cameras = hammersley_sphere(6, size=9)
    origins, directions = cameras.rays()
    points = origins[:, None, None] + directions * 1.7
    for view in range(6):
        pixels, depth = cameras[[view]].project(points[view].reshape(-1, 3))
        torch.testing.assert_close(depth, torch.full_like(depth, 1.7))
        rows, columns = torch.meshgrid(torch.arange(9) + 0.5, torch.arange(9) + 0.5, indexing="ij")
        torch.testing.assert_close(pixels[0], torch.stack([columns, rows], -1).view(-1, 2), atol=1e-4, rtol=0)


def test_the_cube_just_fits():
    corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3)
    cameras = hammersley_sphere(64, fov=40, size=256)
    pixels, _ = cameras.project(corners)
    assert pixels.min() >= 0
    assert pixels.max() <= 256
    assert cameras.positions.norm(dim=1)[0] == pytest.approx(CUBE_RADIUS / math.sin(math.radians(20)))


def test_points_are_spread_evenly():
    positions = torch.nn.functional.normalize(hammersley_sphere(64).positions, dim=1)
    nearest = (positions @ positions.T - 2 * torch.eye(64)).amax(1).acos()
    assert nearest.min() > 0.4 * math.sqrt(4 * math.pi / 64)
    assert positions.mean(0).norm() < 0.05


def test_another_offset_gives_other_views():
    first, second = hammersley_sphere(8).positions, hammersley_sphere(8, offset=0.5).positions
    assert torch.cdist(first, second).min() > 0.1


def test_looking_straight_down_is_defined():
    above = orbit(torch.tensor([[0.0, 1, 0]]), fov=40, size=16)
    assert torch.isfinite(above.w2c).all()
    assert torch.linalg.det(above.w2c[0, :3, :3]) == pytest.approx(1, abs=1e-6)


def test_what_makes_no_cameras_is_refused():
    with refused("0 cameras"):
        hammersley_sphere(0)
    with refused("intrinsics"):
        Cameras(torch.eye(4)[None], torch.eye(4)[None], (4, 4))
