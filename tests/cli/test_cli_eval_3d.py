"""``atoken eval --protocol paper-3d``: what is decoded and what was drawn, from views that were not encoded."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from atoken import load
from atoken.evaluation.asset_methods import AssetMethod, VoxelColours
from atoken.evaluation.assets import held_out_cameras, read_held_out
from atoken.gaussians.raster.rasterize import render
from atoken.media.views.cameras import hammersley_sphere
from atoken.media.views.views import DISTANCE, VIEWS
from atoken.media.views.voxels import occupied_voxels
from atoken.metrics.psnr import psnr
from refusals import check_names

trimesh = pytest.importorskip("trimesh")
METRICS = ["--metrics", "psnr,ssim"]


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """A red box and a blue ball in class folders."""
    folder = tmp_path_factory.mktemp("toys")
    for name, shape, colour in (
        ("box", trimesh.creation.box(), (200, 30, 20, 255)),
        ("ball", trimesh.creation.icosphere(), (10, 60, 220, 255)),
    ):
        shape.visual.vertex_colors = np.array(colour, np.uint8)
        (folder / name).mkdir()
        shape.export(folder / name / "mesh.ply")
    return folder


@pytest.mark.slow
def test_the_numbers_are_those_of_the_held_out_views(atoken, solid, toys, tmp_path):
    arguments = ["eval", solid, "--protocol", "paper-3d", "--data", toys, "--out", tmp_path / "out"]
    result = atoken(*arguments, "--kind", "continuous", *METRICS, "--against", "voxels")
    assert result.exit_code == 0, result.stderr
    results = json.loads((tmp_path / "out/results.json").read_text())
    model, balls = results["methods"]
    assert (model["name"], balls["name"]) == ("solid, continuous", "voxel colours, 16³")
    tokenizer, scores = load(solid), []
    for path in (toys / "ball/mesh.ply", toys / "box/mesh.ply"):
        asset = read_held_out(path)
        tokens = tokenizer.encode(path)
        tokens = replace(tokens, values=tokens.values.half().float())
        pictures = render(tokenizer.decode(tokens), held_out_cameras()).to_uint8()
        scores.append(np.mean([psnr(a, b) for a, b in zip(pictures, asset.pictures, strict=True)]))
    assert model["metrics"]["psnr"]["value"] == pytest.approx(np.mean(scores), abs=1e-3)
    assert model["metrics"]["bpp"]["value"] == 48 * 16
    assert model["metrics"]["bpp"]["label"] == "bits per voxel"
    assert balls["metrics"]["psnr"]["value"] > model["metrics"]["psnr"]["value"] + 3, "the model is random"
    assert balls["metrics"]["psnr"]["protocol"]["views"]["count"] == 8
    assert "8 held-out views of 256 × 256, 40° wide" in result.stdout
    assert (tmp_path / "out/report.html").read_text().count("data:image/webp;base64,") == 2 * 3


@pytest.mark.slow
def test_packed_assets_are_their_meshes(atoken, solid, toys, tmp_path):
    """The test split of packed furniture, and the same numbers as from the mesh that was packed."""
    asset = read_held_out(toys / "box/mesh.ply")
    voxels, patch = (part.byte().numpy() for part in occupied_voxels(asset.views, resolution=16))
    arrays = {"views": asset.views.colour, "held_out": asset.pictures, "voxels16": voxels, "patch16": patch}
    np.savez(tmp_path / "box.npz", **arrays)
    index = [{"id": i, "split": s, "name": "Box", "category": "A"} for i, s in (("box", "test"), ("ball", "train"))]
    (tmp_path / "index.json").write_text(json.dumps(index))
    arguments = ["eval", solid, "--protocol", "paper-3d", "--data", tmp_path, "--layout", "furniture", *METRICS]
    result = atoken(*arguments, "--kind", "continuous", "--against", "voxels", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    model, balls = json.loads((tmp_path / "out/results.json").read_text())["methods"]
    for method, found in ((AssetMethod(load(solid), "solid", "continuous"), model), (VoxelColours(16), balls)):
        pictures = method.reconstruct([asset])[0].frames
        expected = np.mean([psnr(a, b) for a, b in zip(pictures, asset.pictures, strict=True)])
        assert found["metrics"]["psnr"]["value"] == pytest.approx(expected, abs=1e-3)


def test_held_out_cameras_are_not_the_encoder_s():
    own = hammersley_sphere(VIEWS, distance=DISTANCE).positions
    assert torch.cdist(held_out_cameras().positions, own).min() > 0.1
    torch.testing.assert_close(held_out_cameras().positions.norm(dim=1), torch.full((8,), 2.0))


@pytest.mark.slow
def test_finer_voxels_are_nearer(toys):
    asset = read_held_out(toys / "box/mesh.ply")
    coarse, fine = (
        np.mean([psnr(a, b) for a, b in zip(method.reconstruct([asset])[0].frames, asset.pictures, strict=True)])
        for method in (VoxelColours(16), VoxelColours(64))
    )
    assert fine > coarse > 12


@pytest.mark.slow
def test_what_cannot_be_measured_is_one_sentence(atoken, solid, tiny, toys, tmp_path):
    base = ["--protocol", "paper-3d", "--data", toys, "--out", tmp_path / "out"]
    for arguments, *named in (
        ([tiny, *base], "'tiny'", "Gaussian head"),
        ([solid, *base, *METRICS, "--against", "jpeg"], "--against", "'jpeg'"),
        ([solid, *base, *METRICS, "--linear", "file"], "--linear", "paper-3d"),
        ([solid, *base, "--metrics", "rfvd"], "rfvd", "paper-3d"),
    ):
        result = atoken("eval", *arguments)
        assert result.exit_code == 2
        check_names(result.stderr, *named)
        assert not (tmp_path / "out").exists()
