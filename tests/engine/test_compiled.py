"""Compiled blocks: they are compiled, once for all lengths of segments, and learn what plain ones do."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from atoken import PRESETS, AToken, Packed
from atoken.engine.config import ParallelConfig
from atoken.engine.optimizer import blocks_of
from atoken.engine.ranks import Ranks, parallelize
from atoken.losses.total import Weights, weighted
from atoken.nn.packed import dense_coords
from atoken.train.module import TrainModule
from atoken.train.tasks import Reconstruction
from atoken.train.trainer import train
from train.conftest import SMALL, terms
from train.test_tasks import BATCHES

FP32 = 1e-4
"""Relative difference that fp32 allows two orders of computing one step: 2^-24 grows by the square root of some 1e4
operations on the way to a gradient to about 1e-5, on any machine; ten times that."""


@pytest.mark.slow
def test_blocks_are_compiled_once_for_all_batches_though_they_are_recomputed(config, tmp_path, monkeypatch):
    counter = CompileCounter()  # hands the traced graphs back as they are
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    torch._dynamo.reset()
    plainly = replace(config, log=replace(config.log, every=1))
    compiling = replace(plainly, parallel=replace(config.parallel, compile=True, checkpointing=True))
    train(compiling, tmp_path / "compiled", stop_after=3)
    graphs = counter.frame_count
    assert graphs
    train(compiling, tmp_path / "compiled")
    assert counter.frame_count == graphs
    train(plainly, tmp_path / "plain", stop_after=1)
    # The first step alone: later ones take fp32's rounding through Adam's m / sqrt(v), which enlarges it without bound.
    compiled, plain = terms(tmp_path / "compiled"), terms(tmp_path / "plain")
    assert compiled[1] == pytest.approx(plain[1], rel=FP32)


@pytest.mark.slow
def test_compiled_and_recomputed_blocks_have_the_gradients_of_plain_ones(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=CompileCounter()))
    torch._dynamo.reset()
    found = []
    for parallel in (ParallelConfig(autocast=False), ParallelConfig(autocast=False, compile=True, checkpointing=True)):
        torch.manual_seed(0)
        learner = TrainModule(AToken(SMALL).train(), {"task": Reconstruction(Weights())})
        terms = parallelize(learner, blocks_of(learner), parallel, Ranks())("task", BATCHES["image"])
        weighted(terms, Weights())["l1"].backward()
        found.append({name: p.grad for name, p in learner.named_parameters() if p.grad is not None})
    plain, compiled = found
    assert plain.keys() == compiled.keys()
    for name, gradient in plain.items():
        assert float((compiled[name] - gradient).norm()) <= FP32 * float(gradient.norm()), name


@pytest.mark.slow
def test_blocks_are_not_compiled_anew_for_every_mixture_of_lengths(monkeypatch):
    counter = CompileCounter()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    torch._dynamo.reset()
    model = AToken(PRESETS["tiny"])
    parallelize(model, blocks_of(model), ParallelConfig(compile=True), Ranks())
    graphs = []
    for mixture in range(1, 11):  # as many runs of equal lengths as the number says
        grids = [dense_coords((1, 1, columns + 1, 1)) for columns in range(mixture)]
        batch = Packed.cat([(torch.zeros(len(grid), 768), grid) for grid in grids])
        assert model.encode_packed(batch, pool=False).moments.isfinite().all()
        graphs.append(counter.frame_count)
    assert graphs[0] > 0
    assert graphs[2] == graphs[-1]
