"""What fills the unit cube: strays do not set the scale, and a clean asset is as it was."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from atoken import Gaussians
from atoken.codec.assets import read_any
from atoken.gaussians.views import splat_views
from atoken.media.mesh import read_asset
from atoken.media.views.cameras import hammersley_sphere
from atoken.media.views.extent import FULL, ROBUST, cube_of, fitted
from atoken.media.views.views import ViewOptions, render_views
from atoken.media.views.voxels import occupied_voxels
from refusals import refused

trimesh = pytest.importorskip("trimesh")
FLOATER = Path(__file__).parents[1] / "data/inputs/splat/floater.ply"
CAMERAS = hammersley_sphere(4, size=96, distance=2)


def ball(seed: int = 0, count: int = 600) -> torch.Tensor:
    points = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(points, dim=1) * 2


def splats(means: torch.Tensor, opacity: float = 0.99, size: float = 0.2) -> Gaussians:
    count = len(means)
    turn = torch.tensor([[1.0, 0, 0, 0]]).expand(count, 4)
    return Gaussians.of(
        means, torch.full((count, 3), size), turn, torch.full((count,), opacity), torch.ones(count, 3) / 2
    )


@pytest.mark.parametrize("far", [[30.0, 0, 0], [0, -3000, 0], [9, 9, 9]])
def test_a_floater_does_not_squash_the_scene(far):
    means = torch.cat([ball(), torch.tensor([far])])
    with pytest.warns(UserWarning, match=r"1 of 601 Gaussians.*full"):
        views = splat_views(splats(means), CAMERAS, name="a.ply")
    clean = splat_views(splats(ball()), CAMERAS)
    np.testing.assert_allclose(views.transform, clean.transform)
    np.testing.assert_array_equal(views.colour, clean.colour)


def test_the_floater_of_a_report():
    with pytest.warns(UserWarning, match=r"floater\.ply: 1 of 801"):
        views = read_any(FLOATER, ViewOptions(views=4))
    assert len(occupied_voxels(views)[0]) > 3000
    assert views.transform[0][0] < 1.1


def test_faint_ones_do_not_count_and_many_do():
    """What is a tenth of the scene is part of it, however far off."""
    faint = splats(torch.tensor([[50.0, 0, 0]]), opacity=0.01)
    parts = {key: torch.cat([getattr(splats(ball()), key), getattr(faint, key)]) for key in
             ("means", "log_scales", "rotations", "logits", "sh")}  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert splat_views(Gaussians(**parts), CAMERAS).transform[0][0] == pytest.approx(4, abs=0.1)
        two = torch.cat([ball(), ball(1, 80) + 50])
        assert splat_views(splats(two), CAMERAS).transform[0][0] > 50


def test_a_side_in_the_units_of_the_asset():
    with pytest.warns(UserWarning, match="side 3 "):
        views = splat_views(splats(ball()), CAMERAS, 3.0)
    assert views.transform[0][0] == 3
    with pytest.warns(UserWarning, match="600 of 600"), refused("0.1", "larger extent"):
        splat_views(splats(ball()), CAMERAS, 0.1)


def test_everything_where_it_is_asked_for():
    means = torch.cat([ball(), torch.tensor([[9.0, 0, 0]])])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = splat_views(splats(means), CAMERAS, FULL)
    assert whole.transform[0][0] == pytest.approx(11, abs=0.1)


def mesh(path: Path, stray: bool) -> Path:
    shape = trimesh.creation.icosphere(2, radius=2)
    triangle = trimesh.Trimesh([[70, 0, 0], [71, 0, 0], [70, 1, 0]], [[0, 1, 2]])
    (trimesh.util.concatenate([shape, triangle]) if stray else shape).export(path)
    return path


@pytest.mark.parametrize("suffix", [".stl", ".ply", ".obj"])
def test_a_stray_triangle_does_not_squash_a_mesh(tmp_path, suffix):
    with pytest.warns(UserWarning, match=r"3 of \d+ vertices.*full"):
        found = read_any(mesh(tmp_path / f"a{suffix}", True), ViewOptions(views=4, size=96))
    clean = read_any(mesh(tmp_path / f"b{suffix}", False), ViewOptions(views=4, size=96))
    np.testing.assert_allclose(found.transform, clean.transform, atol=1e-4)
    assert (found.mask == clean.mask).mean() > 0.999
    full = read_any(tmp_path / f"a{suffix}", ViewOptions(views=4, size=96, extent=FULL))
    assert full.transform[0][0] == pytest.approx(73, abs=0.1)


def test_a_clean_mesh_is_left_as_it_is(tmp_path):
    asset = read_asset(mesh(tmp_path / "a.stl", False))
    assert fitted(asset, ROBUST) is asset
    with pytest.warns(UserWarning, match="outside"):
        half = fitted(asset, 2.0)
    np.testing.assert_allclose(half.transform[0][0], 2, rtol=1e-5)
    assert float(np.abs(half.vertices).max()) == pytest.approx(1, abs=1e-3)


def test_long_thin_parts_are_no_strays(tmp_path):
    """A pole as long as four times what it stands on, and a large floor beneath a small thing."""
    stick = trimesh.creation.cylinder(0.05, 4).apply_translation([0, 0, 2])
    pole = trimesh.util.concatenate([trimesh.creation.box((1, 1, 1)), stick])
    floor = trimesh.util.concatenate([trimesh.creation.box((40, 40, 0.1)), trimesh.creation.icosphere(3, radius=1)])
    for name, shape, side in (("pole.stl", pole, 4.5), ("floor.stl", floor, 40)):
        shape.export(tmp_path / name)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            asset = fitted(read_asset(tmp_path / name), ROBUST)
        assert asset.transform[0][0] == pytest.approx(side, rel=1e-4)


@pytest.mark.parametrize("extent", ["most", 0, -1, float("nan"), float("inf")])
def test_extents_that_cannot_be(extent):
    with refused("extent", extent, "robust", "full"):
        ViewOptions(extent=extent)


def test_weights_decide():
    points = np.array([[0.0, 0, 0]] * 90 + [[1, 0, 0]] * 9 + [[100, 0, 0]])
    with pytest.warns(UserWarning, match="1 of 100 points"):
        assert cube_of(points, np.ones(100), ROBUST, "a", "points")[1] == 1
    heavy = np.ones(100)
    heavy[-1] = 50
    assert cube_of(points, heavy, ROBUST, "a", "points")[1] == 100


def test_views_of_another_extent_lead_back(tmp_path):
    asset = read_asset(mesh(tmp_path / "a.stl", False))
    with pytest.warns(UserWarning, match="outside"):
        views = render_views(replace(asset, name="ball"), CAMERAS, extent=3.0)
    out = np.array(views.transform)
    points = views.points().numpy() @ out[:3, :3].T + out[:3, 3]
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 2, atol=0.06)
