"""3D files of every format to coloured triangles, to views, and the files that are refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atoken import write_image
from atoken.core.errors import ReadError
from atoken.media.mesh import asset as mesh_asset
from atoken.media.mesh import read_asset
from atoken.media.views.cameras import orbit
from atoken.media.views.views import render_views
from refusals import refused

trimesh = pytest.importorskip("trimesh")
FRONT = orbit(torch.tensor([[0.0, 0, 1]]), fov=40, size=64, distance=3)
RED, BLUE = (200, 30, 20), (10, 60, 220)


def box(colour=RED, extents=(1.0, 1.0, 1.0)):
    shape = trimesh.creation.box(extents)
    shape.visual.vertex_colors = np.array([*colour, 255], np.uint8)
    return shape


def colour_in_the_middle(asset):
    return render_views(asset, FRONT).colour[0, 32, 32]


@pytest.fixture
def textured(tmp_path) -> Path:
    """A plate facing +z whose texture is red on the left and blue on the right, and green at the top."""
    texture = np.zeros((64, 64, 3), np.uint8)
    texture[:, :32], texture[:, 32:], texture[:8] = RED, BLUE, (0, 255, 0)
    write_image(tmp_path / "paint.png", texture)
    (tmp_path / "plate.mtl").write_text("newmtl paint\nKd 1 1 1\nmap_Kd paint.png\n")
    (tmp_path / "plate.obj").write_text(
        "mtllib plate.mtl\nv -1 -1 0\nv 1 -1 0\nv 1 1 0\nv -1 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
        "usemtl paint\nf 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"
    )
    return tmp_path / "plate.obj"


@pytest.mark.parametrize("suffix", ["glb", "gltf", "obj", "ply", "off", "dae", "stl"])
def test_every_format_is_read(tmp_path, suffix):
    path = tmp_path / f"box.{suffix}"
    if suffix == "gltf":
        for name, data in trimesh.exchange.gltf.export_gltf(trimesh.Scene(box())).items():
            (tmp_path / name.replace("model.gltf", "box.gltf")).write_bytes(data)
    else:
        box().export(path)
    asset = read_asset(path)
    assert asset.vertices.min() == pytest.approx(-0.5)
    assert asset.vertices.max() == pytest.approx(0.5)
    depth = render_views(asset, FRONT).depth[0]
    assert depth[32, 32] == pytest.approx(2.5, abs=1e-4)
    assert np.isinf(depth[0, 0])
    if suffix in ("glb", "gltf", "ply"):
        seen = colour_in_the_middle(asset).astype(int)
        # glTF keeps vertex colours as linear light, which the exporter does not convert to
        expected = RED if suffix == "ply" else [round(255 * srgb(c / 255)) for c in RED]
        assert np.abs(seen - expected).max() <= 1


def srgb(linear: float) -> float:
    return linear * 12.92 if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055


def test_a_texture_lies_the_right_way_round(textured):
    picture = render_views(read_asset(textured), FRONT).colour[0]
    inside = np.flatnonzero(picture.any(2).any(1))
    top, bottom = inside[0], inside[-1]
    left, right = np.flatnonzero(picture.any(2).any(0))[[0, -1]]
    assert tuple(picture[(top + bottom) // 2, left + 3]) == RED
    assert tuple(picture[(top + bottom) // 2, right - 3]) == BLUE
    assert tuple(picture[top + 1, (left + right) // 2]) == (0, 255, 0)


def test_scene_transforms_and_the_way_back(tmp_path):
    scene = trimesh.Scene()
    move = trimesh.transformations.translation_matrix([10, 0, 0])
    scene.add_geometry(box(RED), transform=move)
    scene.add_geometry(box(BLUE), transform=trimesh.transformations.translation_matrix([13, 0, 0]))
    scene.export(tmp_path / "two.glb")
    asset = read_asset(tmp_path / "two.glb")
    assert len(asset.materials) == 2
    matrix = np.array(asset.transform)
    back = asset.vertices @ matrix[:3, :3].T + matrix[:3, 3]
    np.testing.assert_allclose(back.min(0), [9.5, -0.5, -0.5], atol=1e-5)
    np.testing.assert_allclose(back.max(0), [13.5, 0.5, 0.5], atol=1e-5)


def test_a_mask_is_seen_through_and_faces_have_two_sides(tmp_path):
    leaf = np.zeros((32, 32, 4), np.uint8)
    leaf[..., 1], leaf[8:24, :, 3] = 255, 255  # opaque in the middle only
    image = io.BytesIO()
    Image.fromarray(leaf).save(image, "PNG")
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=Image.open(image), alphaMode="MASK", alphaCutoff=0.5
    )
    corners = [[-1, -1, 0.5], [1, -1, 0.5], [1, 1, 0.5], [-1, 1, 0.5]]
    plate = trimesh.Trimesh(corners, [[0, 2, 1], [0, 3, 2]], process=False)
    plate.visual = trimesh.visual.TextureVisuals(uv=[[0, 0], [1, 0], [1, 1], [0, 1]], material=material)
    scene = trimesh.Scene([plate, box(BLUE, (2.0, 2.0, 0.2))])
    scene.export(tmp_path / "leaf.glb")
    views = render_views(read_asset(tmp_path / "leaf.glb"), FRONT)
    assert tuple(views.colour[0, 32, 32]) == (0, 255, 0)  # the back of the plate, which faces away
    assert views.colour[0, 20, 32, 2] > 100
    assert views.depth[0, 20, 32] > views.depth[0, 32, 32] + 0.1


@pytest.mark.slow
def test_a_fine_texture_is_averaged_and_not_sampled_at_random(tmp_path, textured):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 2, (2048, 2048, 1), np.uint8) * 255
    write_image(tmp_path / "paint.png", noise.repeat(3, 2))
    picture = render_views(read_asset(textured), FRONT).colour[0]
    assert picture[28:36, 28:36].std() < 20
    assert picture[28:36, 28:36].mean() == pytest.approx(188, abs=10)  # half of the light


def test_a_point_cloud(tmp_path):
    points = np.random.default_rng(0).normal(size=(20_000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    colours = np.where(points[:, :1] > 0, RED, BLUE).astype(np.uint8)
    trimesh.PointCloud(points, colours).export(tmp_path / "ball.ply")
    asset = read_asset(tmp_path / "ball.ply")
    assert asset.is_cloud
    views = render_views(asset, FRONT)
    assert tuple(views.colour[0, 32, 40]) == RED
    assert tuple(views.colour[0, 32, 24]) == BLUE
    assert views.depth[0, 32, 32] == pytest.approx(2.5, abs=0.02)


def test_a_point_cloud_without_colours_is_grey_and_said_so(tmp_path):
    trimesh.PointCloud(np.random.default_rng(0).random((500, 3))).export(tmp_path / "bare.ply")
    with pytest.warns(UserWarning, match=r"bare\.ply"):
        asset = read_asset(tmp_path / "bare.ply")
    assert (asset.colours[:, :3] == 128).all()


def test_a_missing_texture_is_warned_about(textured):
    (textured.parent / "paint.png").unlink()
    (textured.parent / "plate.mtl").write_text("newmtl paint\nKd 0 1 0\nmap_Kd paint.png\n")
    with pytest.warns(UserWarning, match="'paint.png'"):
        asset = read_asset(textured)
    assert tuple(colour_in_the_middle(asset)) == (0, 255, 0)


@pytest.mark.parametrize("outside", ["../secret.png", "/etc/hostname"])
def test_a_reference_outside_the_folder_is_refused(textured, outside):
    (textured.parent / "plate.mtl").write_text(f"newmtl paint\nmap_Kd {outside}\n")
    with refused("plate.obj", outside, error=ReadError):
        read_asset(textured)


@pytest.mark.slow
def test_too_many_faces_are_simplified(tmp_path, monkeypatch):
    monkeypatch.setattr(mesh_asset, "SIMPLIFY_GRID", 32)
    trimesh.creation.icosphere(6).export(tmp_path / "ball.stl")
    whole, small = read_asset(tmp_path / "ball.stl"), read_asset(tmp_path / "ball.stl", max_faces=20_000)
    assert len(whole.faces) == 81_920
    assert len(small.faces) < 20_000
    near = render_views(small, FRONT).depth[0]
    far = render_views(whole, FRONT).depth[0]
    both = np.isfinite(near) & np.isfinite(far)
    assert both.sum() > 0.95 * np.isfinite(far).sum()
    assert np.abs(near - far)[both].max() < 0.1


ODD_PLY = b"ply\nformat ascii 1.0\nelement cat 1\nproperty float x\nend_header\n1\n"
FAULTS = {
    "empty.glb": (b"", "empty"),
    "text.glb": (b"this is no mesh at all", "damaged"),
    "cut.glb": (None, "cut short"),
    "none.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no faces"),
    "nan.obj": (b"v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "NaN"),
    "point.obj": (b"v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n", "size"),
    "odd.ply": (ODD_PLY, "no faces"),
    "photo.jpg": (b"abc", "not a 3D file"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_no_asset_is_refused_in_one_sentence(tmp_path, name):
    content, sentence = FAULTS[name]
    if content is None:
        content = box().export(file_type="glb")[:-200]
    (tmp_path / name).write_bytes(content)
    with refused(name, sentence, error=ReadError):
        read_asset(tmp_path / name)


def test_an_archive_is_named_as_one(tmp_path):
    with zipfile.ZipFile(tmp_path / "box.glb", "w") as archive:
        archive.writestr("box.obj", "v 0 0 0")
    with refused("box.glb", "archive", error=ReadError):
        read_asset(tmp_path / "box.glb")


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_asset(tmp_path / "gone.glb")
