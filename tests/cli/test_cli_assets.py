"""3D on the command line: an asset to tokens, to a splat file with views, and beside its reconstruction."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from cli_models import HEAD

from atoken import PRESETS, AToken, Gaussians, Tokens, load, read_image
from atoken.evaluation.psnr import psnr
from atoken.media.mesh import read_asset
from atoken.media.video import open_video
from atoken.media.views import render_views
from atoken.model.gaussians import GaussianDecoder
from atoken.render.cameras import hammersley_sphere
from atoken.render.show import turntable_frames


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


def test_both_side_by_side(atoken, solid, tower, tmp_path):
    result = atoken("reconstruct", tower, "--model", solid, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "16 views" in result.stdout
    sheet = read_image(tmp_path / "out/tower.reconstructed.png")
    assert sheet.shape == (4 * 256 + 36, 2 * 516 + 12, 3)
    assert sheet[:256, :256].any(), "the asset, on black"


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


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--views", 0, "0 views of 256 x 256 pixels cannot be"),
        ("--view-size", 8, "16 views of 8 x 8 pixels cannot be"),
        ("--view-size", 100_000, "at most 33554432 pixels in all"),
        ("--fov", 120, "a field of view of 120 degrees cannot be: give 1 to 80"),
        ("--fov", "nan", "a field of view of nan degrees cannot be"),
        ("--patches", "best", "give one of visible, nearest"),
    ],
)
def test_views_that_cannot_be(atoken, solid, tower, tmp_path, option, value, reason):
    result = atoken("encode", tower, "--model", solid, "--out", tmp_path / "a.atok", option, value)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert not (tmp_path / "a.atok").exists()


def test_views_are_chosen_only_where_there_is_a_choice(atoken, solid, tmp_path, picture):
    picture(tmp_path / "a.png")
    (tmp_path / "b.npz").touch()
    (tmp_path / "transforms.json").touch()
    for name, reason in (
        ("a.png", "are for 3D files: none is here"),
        ("b.npz", "views cannot be chosen any more"),
        ("transforms.json", "their number and field of view cannot be chosen"),
    ):
        result = atoken("encode", tmp_path / name, "--model", solid, "--out", tmp_path / "out", "--views", 4)
        assert result.exit_code == 2
        assert reason in result.stderr


def test_an_asset_of_no_area_does_not_stop_the_others(atoken, solid, tower, tmp_path):
    (tower.parent / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n")
    result = atoken("encode", tower.parent, "--model", solid, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "a.obj: the views see nothing" in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name[0] != "."] == ["tower.atok"]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.zip", b"PK\x03\x04" + bytes(60), "a.zip is an archive: unpack it"),
        ("a.glb", b"PK\x03\x04" + bytes(60), "a.glb is an archive: unpack it"),
        ("a.gltf", b"[]", "a.gltf is damaged or not a .gltf file\n"),
        ("a.ply", b"this is not a ply\n", "a.ply is damaged or not a .ply file\n"),
        (
            "a.gltf",
            b'{"asset": {"version": "2.0"}, "buffers": [{"byteLength": 36, "uri": "gone.bin"}]}',
            "a.gltf needs 'gone.bin', which is missing",
        ),
    ],
)
def test_what_is_no_asset_is_one_sentence(atoken, solid, tmp_path, name, data, reason):
    (tmp_path / name).write_bytes(data)
    result = atoken("encode", tmp_path / name, "--model", solid, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stderr.count("\n") <= 2


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


def test_a_splat_file_is_an_asset_too(atoken, solid, encoded, tmp_path):
    gaussians = load(solid).decode(Tokens.load(encoded / "tower.atok")).in_asset_frame()
    replace(gaussians, logits=gaussians.logits + 5).save(tmp_path / "b.ply")
    assert atoken("encode", tmp_path / "b.ply", "--model", solid, "--out", tmp_path / "b.atok").exit_code == 0
    moved = np.array(Tokens.load(tmp_path / "b.atok").transform)
    np.testing.assert_allclose(moved[:3, 3], [10, 3, 0], atol=0.4)
    assert moved[0, 0] == pytest.approx(6, abs=0.9)


def test_a_model_without_a_head(atoken, tiny, tower, tmp_path):
    assert atoken("encode", tower, "--model", tiny, "--out", tmp_path / "a.atok").exit_code == 0
    result = atoken("decode", tmp_path / "a.atok", "--model", tiny, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "'tiny' has no Gaussian head" in result.stderr
    assert not list((tmp_path / "out").glob("*"))


def test_a_picture_name_for_a_splat(atoken, solid, encoded, tmp_path):
    result = atoken("decode", encoded / "tower.atok", "--model", solid, "--out", tmp_path / "a.png")
    assert result.exit_code == 2
    assert "tower.atok ends in .gif or .html or" in result.stderr
    assert not (tmp_path / "a.png").exists()


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
