"""Training on CUDA computes what the CPU does; there the other tests of this folder run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from atoken.training.trainer import train

from .conftest import terms


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_a_run_on_cuda_is_the_run_on_the_cpu_but_for_rounding(config, tmp_path, autocast, compile):
    parallel = replace(config.parallel, autocast=autocast, compile=compile)
    config = replace(config, steps=4, loss=replace(config.loss, kl=0.0), parallel=parallel)
    helped = replace(config, tasks=(replace(config.tasks[0], workers=1),))
    train(replace(config, parallel=replace(parallel, compile=False)), tmp_path / "cpu", "cpu")
    train(helped, tmp_path / "cuda", "cuda")
    here, there = terms(tmp_path / "cpu"), terms(tmp_path / "cuda")
    assert here.keys() == there.keys()
    for step in here:
        assert there[step] == pytest.approx(here[step], rel=0.03 if autocast else 5e-3), step
