"""Light on what has no colours of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atoken import PRESETS, AToken, Tokens
from atoken.codec.assets import read_any
from atoken.media.mesh import read_asset
from atoken.media.mesh.light import LIGHTS, light_of, shade
from atoken.media.views.views import ViewOptions
from atoken.media.views.voxels import views_to_patches
from refusals import refused

trimesh = pytest.importorskip("trimesh")
DATA = Path(__file__).parents[1] / "data/inputs"
FEW = {"views": 4, "size": 96}


def box(path: Path, colour: list[int] | None = None) -> Path:
    shape = trimesh.creation.box((1, 1, 1))
    if colour:
        shape.visual.vertex_colors = np.tile([*colour, 255], (8, 1)).astype(np.uint8)
    shape.export(path)
    return path


def levels(path: Path, light: str | None = None) -> list[int]:
    """Grey levels of the surface."""
    views = read_any(path, ViewOptions(**FEW, light=light))
    assert (views.colour[views.mask] == views.colour[views.mask][:, :1]).all()
    return sorted(set(views.colour[views.mask][:, 0].tolist()))


@pytest.mark.parametrize("suffix", [".stl", ".ply", ".off"])
def test_a_bare_mesh_shows_its_form(tmp_path, suffix):
    path = box(tmp_path / f"a{suffix}")
    assert levels(path, "none") == [255], "a flat white shape"
    found = levels(path)
    assert found == levels(path, "studio")
    assert len(found) == 6, "no two sides look alike, and each looks the same from everywhere"
    assert np.diff(found).min() > 15
    assert 30 < found[0] < found[-1] < 255
    assert len(levels(path, "head")) > 20


def test_colours_of_its_own_are_left_as_they_are(tmp_path):
    path = box(tmp_path / "a.ply", [200, 30, 30])
    views = read_any(path, ViewOptions(**FEW))
    assert views.light == "none"
    assert np.unique(views.colour[views.mask], axis=0).tolist() == [[200, 30, 30]]
    lit = read_any(path, ViewOptions(**FEW, light="studio"))
    assert len(np.unique(lit.colour[lit.mask], axis=0)) == 6
    np.testing.assert_allclose(lit.colour[lit.mask][:, 1] / 30, lit.colour[lit.mask][:, 0] / 200, atol=0.03)


def test_both_sides_are_lit_and_nothing_leaves_the_range():
    generator = np.random.default_rng(0)
    normals, directions = generator.normal(size=(2, 500, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    for light in ("head", "studio"):
        found = shade(light, normals, directions)
        np.testing.assert_allclose(shade(light, -normals, directions), found, atol=1e-6)
        assert 0.1 < found.min() < found.max() <= 1


def test_the_tokens_say_in_which_light(tmp_path):
    path = box(tmp_path / "a.stl")
    assert "light" not in views_to_patches(read_any(path, ViewOptions(**FEW, light="none")))[2]
    feats, coords, geometry = views_to_patches(read_any(path, ViewOptions(**FEW)), resolution=8)
    assert geometry["light"] == "studio"
    model = AToken(PRESETS["tiny"])
    model.stamp("continuous", feats[:, : model.config.latent_channels], coords, **geometry).save(tmp_path / "a.atok")
    assert Tokens.load(tmp_path / "a.atok").light == "studio"


def test_points_and_splats_have_no_surface(tmp_path):
    trimesh.PointCloud(np.random.default_rng(0).normal(size=(50, 3))).export(tmp_path / "points.ply")
    with pytest.warns(UserWarning, match="grey"):
        cloud = read_asset(tmp_path / "points.ply")
    assert light_of(cloud, None) == "none"
    with refused("points", "light"):
        light_of(cloud, "head")
    with refused("one.ply", "light"):
        read_any(DATA / "splat/one.ply", ViewOptions(light="studio"))


def test_a_light_that_cannot_be():
    with refused("sun", *LIGHTS):
        ViewOptions(light="sun")


def test_glass_is_called_transparent():
    with refused("glass", "transparent"):
        read_any(DATA / "mesh/glass.glb", ViewOptions(**FEW))
