"""Views to voxels: which are occupied, and whose patch each takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from atoken import PRESETS, AToken, Packed
from atoken.media.mesh import read_asset
from atoken.media.views.cameras import hammersley_sphere, orbit
from atoken.media.views.views import Views, render_views
from atoken.media.views.voxels import occupied_voxels, patches_of, views_to_patches
from refusals import refused

trimesh = pytest.importorskip("trimesh")


@pytest.fixture(scope="module")
def ball(tmp_path_factory):
    path = tmp_path_factory.mktemp("ball") / "ball.ply"
    shape = trimesh.creation.icosphere(4)
    shape.visual.vertex_colors = np.concatenate(
        [(127 + 127 * shape.vertices).astype(np.uint8), np.full((len(shape.vertices), 1), 255, np.uint8)], 1
    )
    shape.export(path)
    return path


@pytest.mark.slow
def test_just_the_surface_is_occupied(ball):
    voxels, patch = occupied_voxels(render_views(read_asset(ball)), resolution=32)
    centres = (voxels + 0.5) / 32 - 0.5
    assert (centres.norm(dim=1) - 0.5).abs().max() < 3**0.5 / 32
    full = torch.cartesian_prod(*[torch.arange(32)] * 3)
    crossing = ((full + 0.5) / 32 - 0.5).norm(dim=1).sub(0.5).abs() < 0.2 / 32
    assert len(set(map(tuple, full[crossing].tolist())) - set(map(tuple, voxels.tolist()))) < 0.01 * crossing.sum()
    key = (voxels[:, 0] * 32 + voxels[:, 1]) * 32 + voxels[:, 2]
    assert (key[1:] > key[:-1]).all()
    assert patch.min() >= 0
    assert patch[:, 0].max() < 16


@pytest.mark.slow
def test_a_patch_shows_its_voxel(ball):
    feats, coords, geometry = views_to_patches(render_views(read_asset(ball)), resolution=32)
    assert feats.shape == (len(coords), 768)
    assert geometry["grid"] == (1, 32, 32, 32)
    assert coords.dtype == torch.int32
    expected = (coords[:, 1:] + 0.5) / 16 - 1  # the ball is coloured by its position
    pixels = feats.view(-1, 256, 3)
    nearest = (pixels - expected[:, None]).norm(dim=2).amin(1)
    assert nearest.quantile(0.95) < 0.15  # some pixel of the patch has the voxel's own colour


def two_plates():
    """A red plate at z = 0.3 before a smaller blue one at z = 0.1, seen by a camera in front and one behind."""
    cameras = orbit(torch.tensor([[0.0, 0, 1], [0, 0, -1]]), fov=40, size=64, distance=2)
    colour = np.zeros((2, 64, 64, 3), np.uint8)
    colour[0, ..., 0], colour[1, ..., 2] = 255, 255
    depth = np.full((2, 64, 64), np.inf, np.float32)
    depth[0, 16:48, 16:48], depth[1, 22:42, 22:42] = 1.7, 2.1
    return Views(cameras, colour, depth)


def test_visible_minds_what_stands_between():
    views = two_plates()
    front = occupied_voxels(views)[0][:, 2] > 45
    assert 0 < front.sum() < len(front)

    def red(choice):
        return patches_of(torch.from_numpy(views.colour), occupied_voxels(replace(views, choice=choice))[1])[:, 0] > 0

    assert torch.equal(red("visible"), front)
    assert red("nearest").all()  # the camera in front is nearer to both plates, though it sees one of them only


def test_nothing_in_the_cube_and_an_unknown_choice_are_refused():
    views = two_plates()
    with refused("choice", "best", "visible"):
        occupied_voxels(replace(views, choice="best"))
    views.depth[:] = np.inf
    with refused("nothing", "cube"):
        occupied_voxels(views)


@pytest.mark.slow
def test_an_asset_becomes_tokens_and_an_embedding(ball, tmp_path):
    torch.manual_seed(0)
    model = AToken(PRESETS["tiny"]).eval()
    tokens = model.encode(ball)
    assert (tokens.modality, tokens.grid) == ("3d", (1, 64, 64, 64))
    feats, coords, _ = views_to_patches(render_views(read_asset(ball)))
    expected = model.encode_packed(Packed.cat([(feats, coords)]))
    torch.testing.assert_close(tokens.values, expected.posterior.mode())
    torch.testing.assert_close(model.embed(ball), expected.pooled)
    tokens.save(tmp_path / "ball.atok")
    again = type(tokens).load(tmp_path / "ball.atok")
    assert torch.equal(again.coords, coords)
    assert again.transform == tokens.transform
    assert model.encode([ball, ball])[1].values.equal(tokens.values)


def test_views_of_another_number_and_size(ball):
    views = render_views(read_asset(ball), hammersley_sphere(6, size=128, distance=2))
    feats, coords, geometry = views_to_patches(views, resolution=16)
    assert geometry["size"] == (128, 128)
    assert len(feats) == len(coords) > 500
