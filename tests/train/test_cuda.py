"""Training on CUDA computes what the CPU does; there the other tests of this folder run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from atoken.tokenizer.config import PRESETS
from atoken.train.trainer import train

from .conftest import terms


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("graphs", [False, True])
def test_a_run_on_cuda_is_the_run_on_the_cpu_but_for_rounding(config, tmp_path, monkeypatch, graphs, compile):
    # Posteriors draw other noise on each device, so the model here has codes.
    codes = replace(
        PRESETS["tiny"], name="codes", kinds=("discrete", "continuous"), latent_norm=False, output_norm=False
    )
    monkeypatch.setitem(PRESETS, "codes", codes)
    config = replace(config, model="codes", start=None, quantize=True)
    helped = replace(config, tasks=(replace(config.tasks[0], workers=1),))
    train(config, tmp_path / "cpu", "cpu")
    train(replace(helped, parallel=replace(config.parallel, graphs=graphs, compile=compile)), tmp_path / "cuda", "cuda")
    here, there = terms(tmp_path / "cpu"), terms(tmp_path / "cuda")
    assert here.keys() == there.keys() == {2, 4, 6}
    for step in here:
        assert there[step] == pytest.approx(here[step], rel=0.02), step
