"""What people get to see of Gaussians: animations, sheets, and a page that needs no network."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from atoken import Gaussians
from atoken.gaussians.formats.ply import to_bytes
from atoken.gaussians.raster.rasterize import render
from atoken.gaussians.viewer import (
    BACKGROUND,
    GREY,
    animation,
    contact_sheet,
    side_by_side,
    turntable_frames,
    viewer,
    write_viewer,
)
from atoken.gaussians.views import splat_views
from atoken.media.views.cameras import turntable
from refusals import refused


def test_a_turntable_goes_round_once(cloud):
    frames = turntable_frames(cloud(30), 6, size=48)
    assert frames.shape == (6, 48, 48, 3)
    first = render(cloud(30), turntable(6, size=48)[:1], background=BACKGROUND).to_uint8()[0]
    assert np.array_equal(frames[0], first)
    with Image.open(io.BytesIO(animation(frames, fps=10))) as image:
        image.load()
        assert (image.n_frames, image.size, image.info["loop"], image.info["duration"]) == (6, (48, 48), 0, 100)
        image.seek(3)
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - frames[3]).mean() < 12


def test_sheets_keep_every_picture():
    pictures = np.arange(5, dtype=np.uint8)[:, None, None, None].repeat(8, 1).repeat(6, 2).repeat(3, 3)
    sheet = contact_sheet(pictures, 3, gap=2)
    assert sheet.shape == (18, 22, 3)
    assert [sheet[0, 0, 0], sheet[0, 8, 0], sheet[0, 16, 0], sheet[10, 0, 0], sheet[17, 13, 0]] == [0, 1, 2, 3, 4]
    assert (sheet[:, 6:8] == GREY).all()
    pairs = side_by_side(pictures, pictures + 100)
    assert set(np.unique(pairs)) == {0, 1, 2, 3, 4, 100, 101, 102, 103, 104, GREY}


def test_the_viewer_is_one_file_without_a_network(cloud, tmp_path):
    gaussians = cloud(20)
    write_viewer(tmp_path / "a.html", gaussians, title="<chair>")
    page = (tmp_path / "a.html").read_text()
    assert "&lt;chair&gt;" in page
    assert "<chair>" not in page
    assert not re.search(r"https?://|\bimport\b|\bfetch\(|\bsrc=", page)
    (data,) = re.findall(r"data-ply='([^']+)'", viewer(gaussians))
    assert base64.b64decode(data) == to_bytes(gaussians)
    assert data in page


def test_views_of_splats_see_the_surface(cloud):
    """A plate of opaque Gaussians, far from the origin: its views hold points of it alone, in its unit cube."""
    grid = torch.cartesian_prod(torch.linspace(0, 4, 41), torch.linspace(0, 2, 21))
    count = len(grid)
    means = torch.cat([grid, torch.zeros(count, 1)], 1) + torch.tensor([7.0, -3, 5])
    turn = torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1)
    colours = torch.tensor([0.9, 0.4, 0.1]).expand(count, 3)
    plate = Gaussians.of(means, torch.full((count, 3), 0.06), turn, torch.full((count,), 0.99), colours)
    views = splat_views(plate, turntable(2, elevation=0, size=64))
    points = views.points()
    assert len(points) > 500
    assert float(points[:, 2].abs().max()) < 0.05
    assert float(points[:, 0].abs().max()) == pytest.approx(0.5, abs=0.05)
    assert float(points[:, 1].abs().max()) == pytest.approx(0.25, abs=0.05)
    np.testing.assert_allclose(views.colour[views.mask].mean(0), [230, 102, 26], atol=6)
    out = np.array(views.transform)
    np.testing.assert_allclose(out @ [0, 0, 0, 1], [9, -2, 5, 1], atol=1e-4)
    assert out[0, 0] == pytest.approx(4)


def test_splats_that_show_nothing(cloud):
    gaussians = cloud(3)
    faint = Gaussians(gaussians.means, gaussians.log_scales, gaussians.rotations, gaussians.logits - 99, gaussians.sh)
    with refused("3 Gaussians", "visible"):
        splat_views(faint)
    point = Gaussians(gaussians.means * 0, gaussians.log_scales, gaussians.rotations, torch.ones(3), gaussians.sh)
    with refused("one point"):
        splat_views(point)
