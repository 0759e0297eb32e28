"""The bench's lines of training, on a model small enough for a test."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from atoken.bench import training as bench_training
from atoken.cli import app
from atoken.core import machine


@pytest.mark.slow
def test_the_lines_of_training(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "MATMUL_SIDES", (64,))
    for name, value in {
        "WARMUP": 1,
        "REPEATS": 1,
        "PRESETS_HERE": ("tiny",),
        "TOKENS": 8,
        "SIZE": 32,
        "PICTURES": 1,
    }.items():
        monkeypatch.setattr(bench_training, name, value)
    out = tmp_path / "bench.json"
    result = CliRunner().invoke(app, ["bench", "--preset", "training", "--json", str(out), "--device", "cpu"])
    assert result.exit_code == 0
    alone, perceptual = json.loads(out.read_text())["training"]
    assert alone["terms"] == "l1"
    assert perceptual["terms"] == "l1; lpips, gram, clip of 1"
    assert alone["flops"] == perceptual["flops"]  # the model's own
    for step in (alone, perceptual):
        assert step["seconds"] == pytest.approx(step["forward"] + step["backward"] + step["optimizer"])
        assert step["share"] == pytest.approx(step["flops"] / step["seconds"] / step["matmul_flops"])
    assert "lpips, gram, clip of 1" in result.stdout
