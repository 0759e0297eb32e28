"""``atoken bench``: the table, the JSON, and what its numbers mean."""

import json
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from atoken import PRESETS
from atoken.bench import network as bench
from atoken.bench.network import CASES, Case, measure, random_model
from atoken.core import machine
from refusals import check_names


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(machine, "MATMUL_SIDES", (64,))
    monkeypatch.setattr(machine, "REPEATS", 1)


@pytest.fixture
def here(monkeypatch, pool_here):
    """Cases run in this process, without the start of another."""
    monkeypatch.setattr(bench, "ProcessPoolExecutor", pool_here)


@pytest.mark.slow
def test_a_case_runs_in_a_process_of_its_own(atoken, tmp_path):
    result = atoken("bench", "--preset", "tiny", "--json", tmp_path / "new/bench.json")
    assert result.exit_code == 0
    first, header, row, *_ = result.stdout.splitlines()
    assert "bf16" in first
    assert "fp32" in first
    assert "of peak" in header
    assert row.split()[:4] == ["tiny", "4", "x", "64x64"]
    report = json.loads((tmp_path / "new/bench.json").read_text())
    assert report["matmul_bfloat16"] > 0
    assert report["matmul_float32"] > 0
    (case,) = report["results"]
    assert case["tokens"] == 64
    assert case["trained"] is False
    assert case["share"] == pytest.approx(
        (case["encode_flops"] + case["decode_flops"])
        / (case["encode_seconds"] + case["decode_seconds"])
        / case["matmul_flops"]
    )
    assert case["peak_bytes"] > 50e6


@pytest.mark.slow
def test_the_presets_to_measure(atoken, here, monkeypatch):
    monkeypatch.setattr("atoken.cli.bench.run_bench_3d", lambda: iter([("rasterizer", "numba", 0.5)]))
    monkeypatch.setattr("atoken.cli.bench.run_bench_video", lambda device: iter([("memory of encode", "9 MiB", "+1%")]))
    monkeypatch.setattr("atoken.bench.training.run_bench_training", lambda device: iter(()))
    monkeypatch.setattr(bench, "CASES", (Case("tiny", 16, 1), Case("nano", 16, 1)))
    both = atoken("bench", "--preset", "tiny", "--preset", "nano").stdout
    assert [line.split()[0] for line in both.splitlines()[2:4]] == ["tiny", "nano"]
    assert "shipped" in both
    default = atoken("bench").stdout
    assert "nano" in default
    assert "tiny" not in default
    assert "rasterizer" in default
    assert "memory of encode" in default


def test_every_preset_has_a_case():
    assert {case.preset for case in CASES} == set(PRESETS)
    assert {(case.preset, case.size) for case in CASES} >= {("so400m", 256), ("so400m", 512), ("nano", 256)}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("--preset", "huge"), ["--preset", "'huge'", "tiny", "nano"]), (("--device", "tpu"), ["--device", "'tpu'"])],
)
def test_options_that_cannot_be(atoken, arguments, named):
    result = atoken("bench", *arguments)
    assert result.exit_code == 2
    check_names(result.stderr, *named)


def test_a_process_that_dies_is_one_sentence(atoken, here, monkeypatch):
    def die(case, device):
        raise BrokenProcessPool

    monkeypatch.setattr(bench, "measure", die)
    result = atoken("bench", "--preset", "tiny")
    assert result.exit_code == 2
    check_names(result.stderr, "error: tiny", "64 x 64", "memory")


@pytest.mark.slow
def test_operations_are_those_that_torch_counts(monkeypatch):
    config = replace(PRESETS["tiny"], name="counted", encoder_depth=1, decoder_depth=3)
    monkeypatch.setitem(bench.PRESETS, "counted", config)
    result = measure(Case("counted", 64, 2), "cpu")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)  # a fused layer would not be counted
    monkeypatch.setattr("atoken.nn.attention.has_amx", lambda: False)  # nor would torch's own attention on the CPU
    model = random_model(config, "cpu")
    pictures = list(np.zeros((2, 64, 64, 3), np.uint8))
    tokens = model.encode(pictures)
    for flops, call in (
        (result.encode_flops, lambda: model.encode(pictures)),
        (result.decode_flops, lambda: model.decode(tokens)),
    ):
        with FlopCounterMode(display=False) as counter:
            call()
        assert counter.get_total_flops() == flops


def test_a_random_model_gives_finite_pictures():
    model = random_model(PRESETS["tiny"], "cpu")
    assert all(parameter.dtype == torch.bfloat16 for parameter in model.parameters())
    tokens = model.encode(np.zeros((16, 16, 3), np.uint8))
    assert torch.isfinite(tokens.latents).all()
    assert tokens.latents.std() > 0
