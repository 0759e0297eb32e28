"""The bench's video lines, on clips short enough for a test."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from atoken.bench import video as bench_video
from atoken.cli import app
from atoken.core import machine

pytest.importorskip("av")


@pytest.mark.slow
def test_the_lines_of_video(monkeypatch, tmp_path, pool_here):
    monkeypatch.setattr(machine, "MATMUL_SIDES", (64,))
    monkeypatch.setattr(bench_video, "ProcessPoolExecutor", pool_here)
    monkeypatch.setattr(bench_video, "LENGTHS", (4, 20))
    monkeypatch.setattr(bench_video, "SIZE", 32)
    out = tmp_path / "bench.json"
    result = CliRunner().invoke(app, ["bench", "--preset", "video", "--json", str(out), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    rows = json.loads(out.read_text())["video"]
    assert [row[0] for row in rows[:5]] == ["read", "encode", "decode", "write", "all at once"]
    assert [row[0] for row in rows[5:]] == [f"memory of {name}" for name in ("encode", "decode", "reconstruct")]
    assert [row[2] for row in rows].count("bounds the whole") == 1
    assert all(row[2].endswith("over 4 frames") for row in rows[5:])
