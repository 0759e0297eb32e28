"""3D on the command line: an asset to tokens, to a splat file with views, and beside its reconstruction."""

from __future__ import annotations

import json
import math
import os
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from cli_models import HEAD

from atoken import PRESETS, AToken, Gaussians, Tokens, load, read_image
from atoken.gaussians.viewer import GREY, turntable_frames
from atoken.media.image.files import write_image
from atoken.media.mesh import read_asset
from atoken.media.video.source import open_video
from atoken.media.views import voxels
from atoken.media.views.cameras import hammersley_sphere
from atoken.media.views.views import render_views
from atoken.metrics.psnr import psnr
from atoken.tokenizer.gaussian_head import GaussianDecoder
from refusals import check_names


def write_tower(path):
    """An upright box, 2 x 6 x 1 units about (10, 3, 0), as OBJ."""
    corners = [(x, y, z) for x in (9, 11) for y in (0, 6) for z in (-0.5, 0.5)]
    faces = [(1, 2, 4, 3), (5, 7, 8, 6), (1, 5, 6, 2), (3, 4, 8, 7), (1, 3, 7, 5), (2, 6, 8, 4)]
    lines = [f"v {x} {y} {z}" for x, y, z in corners] + ["f " + " ".join(map(str, face)) for face in faces]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def tower(tmp_path):
    return write_tower(tmp_path / "in/tower.obj")


@pytest.fixture(scope="module")
def encoded(solid, tmp_path_factory):
    """The tokens of the box, in a folder of their own."""
    folder = tmp_path_factory.mktemp("tokens")
    write_tower(folder / "tower.obj")
    load(solid).encode(folder / "tower.obj").save(folder / "tower.atok")
    return folder


@pytest.mark.slow
def test_there_and_back(atoken, solid, tower, encoded, tmp_path):
    assert atoken("encode", tower.parent, "--model", solid, "--out", tmp_path / "tokens").exit_code == 0
    tokens = Tokens.load(tmp_path / "tokens/tower.atok")
    assert torch.equal(tokens.values, Tokens.load(encoded / "tower.atok").half().values)
    assert (tokens.modality, tokens.grid) == ("3d", (1, 16, 16, 16))
    result = atoken("decode", tmp_path / "tokens", "--model", solid, "--out", tmp_path / "back")
    assert result.exit_code == 0
    assert f"{len(tokens)} tokens" in result.stdout
    found = Gaussians.load(tmp_path / "back/tower.ply")
    assert len(found) == 2 * len(tokens)
    sides = found.means.amax(0) - found.means.amin(0)
    torch.testing.assert_close(found.means.mean(0), torch.tensor([10.0, 3.0, 0.0]), atol=0.3, rtol=0)
    torch.testing.assert_close(sides, torch.tensor([2.0, 6.0, 1.0]), atol=0.9, rtol=0)
    assert read_image(tmp_path / "back/tower.views.png").shape == (2 * 256 + 4, 4 * 256 + 12, 3)


@pytest.mark.slow
def test_both_side_by_side_from_voxels_that_are_found_once(atoken, solid, tower, tmp_path, monkeypatch):
    found, calls = voxels.occupied_voxels, []
    monkeypatch.setattr(voxels, "occupied_voxels", lambda *a, **options: calls.append(a) or found(*a, **options))
    result = atoken("reconstruct", tower, "--model", solid, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "16 views" in result.stdout
    assert len(calls) == 1
    sheet = read_image(tmp_path / "out/tower.reconstructed.png")
    assert sheet.shape == (4 * 256 + 36, 2 * 516 + 12, 3)
    assert (sheet[:4, :4] == GREY).all()
    assert len(np.unique(sheet[:256, :256])) >= 3, "the asset, in soft light on grey"


@pytest.mark.slow
def test_the_views_are_options(atoken, solid, tower, tmp_path):
    arguments = ("--views", 5, "--view-size", 96, "--fov", 25, "--patches", "nearest")
    assert atoken("encode", tower, "--model", solid, "--out", tmp_path / "a.atok", *arguments).exit_code == 0
    found, model = Tokens.load(tmp_path / "a.atok"), load(solid)
    cameras = hammersley_sphere(
        5, fov=25, size=96, distance=2 * math.tan(math.radians(20)) / math.tan(math.radians(12.5))
    )
    expected = model.encode(replace(render_views(read_asset(tower), cameras), choice="nearest"))
    assert found.size == (96, 96)
    assert torch.equal(found.coords, expected.coords)
    assert torch.equal(found.values, expected.half().values)
    result = atoken("reconstruct", tower, "--model", solid, "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 0
    assert "5 views" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--views", 0, ["0 views"]),
        ("--view-size", 8, ["8 x 8"]),
        ("--view-size", 100_000, [33554432]),
        ("--fov", 120, [120, 80]),
        ("--fov", "nan", ["nan"]),
        ("--patches", "best", ["best", "visible", "nearest"]),
        ("--extent", "most", ["most", "robust", "full"]),
        ("--extent", -2, ["-2"]),
        ("--light", "sun", ["sun", "none", "head", "studio"]),
    ],
)
def test_views_that_cannot_be(atoken, solid, tower, tmp_path, option, value, named):
    result = atoken("encode", tower, "--model", solid, "--out", tmp_path / "a.atok", option, value)
    assert result.exit_code == 2
    check_names(result.stderr, *named)
    assert not (tmp_path / "a.atok").exists()


@pytest.mark.slow
def test_views_are_chosen_only_where_there_is_a_choice(atoken, solid, tmp_path, picture):
    picture(tmp_path / "a.png")
    (tmp_path / "b.npz").touch()
    (tmp_path / "transforms.json").touch()
    for name, named in (
        ("a.png", ["--views", "3D"]),
        ("b.npz", ["b.npz", "views"]),
        ("transforms.json", ["transforms.json", "number"]),
    ):
        result = atoken("encode", tmp_path / name, "--model", solid, "--out", tmp_path / "out", "--views", 4)
        assert result.exit_code == 2
        check_names(result.stderr, *named)


@pytest.mark.slow
def test_an_asset_of_no_area_does_not_stop_the_others(atoken, solid, tower, tmp_path):
    (tower.parent / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n")
    result = atoken("encode", tower.parent, "--model", solid, "--out", tmp_path / "out")
    assert result.exit_code == 2
    check_names(result.stderr, "a.obj", "nothing")
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name[0] != "."] == ["tower.atok"]


def test_a_list_that_names_files_outside_of_its_folder_takes_none_away(atoken, solid, picture, tmp_path):
    picture(tmp_path / "in/good.png")
    (tmp_path / "in/foreign").mkdir()
    (tmp_path / "in/foreign/meta.json").write_text(json.dumps({"means": {"files": ["../good.png"]}}))
    result = atoken("encode", tmp_path / "in", "--model", solid, "--out", tmp_path / "out")
    assert result.exit_code == 2
    check_names(result.stderr, "foreign/meta.json")
    assert (tmp_path / "out/good.atok").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data", "named"),
    [
        ("a.zip", b"PK\x03\x04" + bytes(60), ["archive"]),
        ("a.glb", b"PK\x03\x04" + bytes(60), ["archive"]),
        ("a.gltf", b"[]", [".gltf"]),
        ("a.ply", b"this is not a ply\n", [".ply"]),
        ("a.ksplat", b"abc", [".ply"]),
        ("a.usdz", b"PK\x03\x04" + bytes(60), [".glb"]),
        ("a.spz", b"PK\x03\x04" + bytes(60), ["SPZ"]),
        ("meta.json", b"{}", ["SOG"]),
        (
            "a.gltf",
            b'{"asset": {"version": "2.0"}, "buffers": [{"byteLength": 36, "uri": "gone.bin"}]}',
            ["gone.bin"],
        ),
    ],
)
def test_what_is_no_asset_is_one_sentence(atoken, solid, tmp_path, name, data, named):
    (tmp_path / name).write_bytes(data)
    result = atoken("encode", tmp_path / name, "--model", solid, "--out", tmp_path / "out")
    assert result.exit_code == 2
    check_names(result.stderr, name, *named)


@pytest.mark.slow
def test_the_name_asks_for_a_turntable_or_a_page(atoken, solid, tower, encoded, tmp_path):
    tokens = encoded / "tower.atok"
    for name in ("turn.mp4", "page.html"):
        assert atoken("decode", tokens, "--model", solid, "--out", tmp_path / name).exit_code == 0
    expected = turntable_frames(load(solid).decode(Tokens.load(tokens)), size=512)
    turning = [frame.pixels for frame in open_video(tmp_path / "turn.mp4")]
    assert len(turning) == len(expected) == 48
    assert np.argmax([psnr(turning[10], frame) for frame in expected[5:16]]) == 5
    assert "<canvas" in (tmp_path / "page.html").read_text()
    assert atoken("reconstruct", tower, "--model", solid, "--out", tmp_path / "pairs.mp4").exit_code == 0
    assert [frame.pixels.shape for frame in open_video(tmp_path / "pairs.mp4")] == [(256, 512, 3)] * 16
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".ply", ".splat", ".spz", ".sog"])
def test_a_splat_file_is_an_asset_too(atoken, solid, encoded, tmp_path, suffix):
    gaussians = load(solid).decode(Tokens.load(encoded / "tower.atok")).in_asset_frame()
    source = tmp_path / f"b{suffix}"
    replace(gaussians, logits=gaussians.logits + 5).save(source)
    assert atoken("encode", source, "--model", solid, "--out", tmp_path / "b.atok").exit_code == 0
    moved = np.array(Tokens.load(tmp_path / "b.atok").transform)
    np.testing.assert_allclose(moved[:3, 3], [10, 3, 0], atol=0.4)
    assert moved[0, 0] == pytest.approx(6, abs=0.9)


@pytest.mark.slow
def test_splats_as_the_name_says(atoken, solid, encoded, tmp_path):
    expected = load(solid).decode(Tokens.load(encoded / "tower.atok")).in_asset_frame()
    for suffix in (".splat", ".spz", ".sog", ".compressed.ply"):
        target = tmp_path / f"a{suffix}"
        result = atoken("decode", encoded / "tower.atok", "--model", solid, "--out", target)
        assert result.exit_code == 0
        found = Gaussians.load(target)
        assert len(found) == len(expected)
        torch.testing.assert_close(found.means.amax(0), expected.means.amax(0), atol=0.01, rtol=0)
        assert target.with_suffix(".views.png").exists()


@pytest.mark.slow
def test_a_killed_decode_writes_what_is_missing(atoken, solid, encoded, tmp_path, monkeypatch):
    """Whatever of the two files is written first, the same command again completes them."""

    def killed(source, target):
        seen.append(target)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return replaced(source, target)

    seen, replaced = [], os.replace
    arguments = ("decode", encoded / "tower.atok", "--model", solid, "--out", tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        assert atoken(*arguments).exit_code == 130
    assert len(list((tmp_path / "out").iterdir())) == 1
    assert atoken(*arguments).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == ["tower.ply", "tower.views.png"]


@pytest.mark.slow
def test_files_of_one_asset_are_no_sources_of_their_own(atoken, solid, picture, encoded, tmp_path):
    folder = tmp_path / "in"
    views = {"file_path": "a", "transform_matrix": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]]}
    picture(folder / "posed/a.png", 64, 64)
    write_image(folder / "other.png", np.zeros((32, 32, 3), np.uint8))
    depth = np.full((64, 64), np.inf, np.float32)
    depth[24:40, 24:40] = 2
    np.save(folder / "posed/a_depth.npy", depth)
    for name in ("transforms.json", "transforms_train.json"):
        (folder / "posed" / name).write_text(
            json.dumps({"camera_angle_x": 0.7, "frames": [views | {"depth_path": "a_depth.npy"}]})
        )
    gaussians = load(solid).decode(Tokens.load(encoded / "tower.atok")).in_asset_frame()
    replace(gaussians, logits=gaussians.logits + 5).save(tmp_path / "b.sog")
    with zipfile.ZipFile(tmp_path / "b.sog") as archive:
        archive.extractall(folder / "sog")
    (folder / "transforms_of_pictures.json").write_text("{}")
    result = atoken("encode", folder, "--model", solid, "--out", tmp_path / "out")
    assert result.exit_code == 0
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.atok")}
    assert found == {"other.atok", "posed/transforms.atok", "posed/transforms_train.atok", "sog/meta.atok"}
    alone = atoken("encode", folder, folder / "posed/a.png", "--model", solid, "--out", tmp_path / "out2")
    assert alone.exit_code == 0
    assert (tmp_path / "out2/posed/a.atok").exists(), "it was named"


@pytest.mark.slow
def test_a_bare_mesh_is_lit_and_its_tokens_say_so(atoken, solid, tower, encoded, tmp_path):
    for light in ("none", "head"):
        result = atoken("encode", tower, "--model", solid, "--out", tmp_path / f"{light}.atok", "--light", light)
        assert result.exit_code == 0
    found = [
        Tokens.load(path).light for path in (tmp_path / "none.atok", tmp_path / "head.atok", encoded / "tower.atok")
    ]
    assert found == [None, "head", "studio"]


@pytest.mark.slow
def test_a_model_without_a_head(atoken, tiny, tower, tmp_path):
    assert atoken("encode", tower, "--model", tiny, "--out", tmp_path / "a.atok").exit_code == 0
    result = atoken("decode", tmp_path / "a.atok", "--model", tiny, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "tiny" in result.stderr
    assert "Gaussian head" in result.stderr
    assert not list((tmp_path / "out").glob("*"))


def test_a_picture_name_for_a_splat(atoken, solid, encoded, tmp_path):
    result = atoken("decode", encoded / "tower.atok", "--model", solid, "--out", tmp_path / "a.png")
    assert result.exit_code == 2
    check_names(result.stderr, "a.png", ".ply", ".spz", ".html")
    assert not (tmp_path / "a.png").exists()


@pytest.mark.slow
def test_converting_both_released_files_into_one_model(atoken, tmp_path):
    torch.manual_seed(0)
    config = replace(PRESETS["tiny"], kinds=("continuous",))
    torch.save(AToken(config).state_dict(), tmp_path / "atoken-soc.pt")
    head = GaussianDecoder(replace(HEAD, resolution=64, scale=4e-3))
    torch.save(head.state_dict(), tmp_path / "3d_decode_gs.pt")
    result = atoken(
        *("convert", tmp_path / "atoken-soc.pt", "--gaussians", tmp_path / "3d_decode_gs.pt"),
        *("--out", tmp_path / "soc"),
    )
    assert result.exit_code == 0
    model = load(tmp_path / "soc")
    assert model.config.gaussians == head.config
    assert model.weights_hash == load(tmp_path / "atoken-soc.pt").weights_hash
