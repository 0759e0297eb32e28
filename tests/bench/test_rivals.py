"""The bench's rivals compute what the model computes, and are named where they are missing."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from atoken.bench import rivals
from atoken.bench.network import Case
from atoken.cli import app
from atoken.cli import bench as cli_bench
from atoken.core import machine
from refusals import check_names

BF16 = 2**-8
"""Half a step between neighbouring numbers of bf16, relative."""


@pytest.fixture
def tiny(monkeypatch, pool_here):
    monkeypatch.setattr(machine, "MATMUL_SIDES", (64,))
    monkeypatch.setattr(rivals, "ROUNDS", 2)
    monkeypatch.setattr(rivals, "CASES", (Case("tiny", 64, 2),))
    monkeypatch.setattr(rivals, "ProcessPoolExecutor", pool_here)
    for place in (rivals, cli_bench):
        monkeypatch.setattr(place, "missing_rivals", lambda device: ["torch.compile (no C++ compiler)", "OpenVINO"])


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_rivals_stand_beside_ours_and_compute_the_same(tiny, tmp_path):
    out = tmp_path / "bench.json"
    result = cli("bench", "--against", "--preset", "tiny", "--device", "cpu", "--json", out)
    assert result.exit_code == 0, result.output
    rows = json.loads(out.read_text())["rivals"]
    assert [(row["network"], row["name"]) for row in rows] == [
        (network, name) for network in ("encoder", "decoder") for name in ("AToken", "plain PyTorch")
    ]
    assert [row["ratio"] for row in rows if row["name"] == "AToken"] == [1.0, 1.0]
    assert [row["difference"] for row in rows if row["name"] == "AToken"] == [0.0, 0.0]
    # two blocks round a dozen times each, most often to nothing: five roundings, in the mean
    assert all(0 < row["difference"] < 5 * BF16 for row in rows if row["name"] == rivals.PLAIN)
    assert "no C++ compiler" in result.stdout


def test_what_is_no_network_has_no_rivals(tiny):
    result = cli("bench", "--against", "--preset", "video", "--device", "cpu")
    assert result.exit_code == 2
    check_names(result.stderr.splitlines()[-1], "--against", "video")


def test_on_cuda_nothing_is_looked_for():
    assert rivals.missing_rivals("cuda:0") == []
