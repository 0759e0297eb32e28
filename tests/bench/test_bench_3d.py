"""The bench's 3D lines, on scenes small enough for a test."""

from __future__ import annotations

import json

import numpy as np
import pytest

from atoken.bench import gaussians as bench_3d
from atoken.core import machine
from atoken.media.views.cameras import turntable
from atoken.media.views.views import render_views


@pytest.mark.slow
def test_the_lines_of_3d(monkeypatch, tmp_path):
    from typer.testing import CliRunner

    from atoken.cli import app

    monkeypatch.setattr(machine, "MATMUL_SIDES", (64,))
    for name, value in {"REPEATS": 1, "COUNT": 50, "SIZE": 32, "TRIANGLES": 400}.items():
        monkeypatch.setattr(bench_3d, name, value)
    out = tmp_path / "bench.json"
    result = CliRunner().invoke(app, ["bench", "--preset", "3d", "--json", str(out), "--device", "cpu"])
    assert result.exit_code == 0
    rows = json.loads(out.read_text())["3d"]
    assert [row[1] for row in rows] == ["numba", "numba", "torch", "torch", "embreex"]
    assert all(row[2] > 0 for row in rows)
    assert "50 Gaussians at 32, with gradients" in result.stdout


def test_the_sphere_of_the_bench_is_one():
    mesh = bench_3d.sphere(2000)
    assert 1900 < len(mesh.faces) < 2100
    views = render_views(mesh, turntable(2, size=32))
    radii = views.points().norm(dim=1).numpy()
    np.testing.assert_allclose(radii, 0.5, atol=0.01)
    assert views.mask.mean() > 0.1
