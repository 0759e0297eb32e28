"""Compiled blocks: they are compiled, once for all lengths of segments, and learn what plain ones do."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from atoken import PRESETS, AToken, Packed
from atoken.tokens import dense_coords
from atoken.training.config import ParallelConfig
from atoken.training.distributed import Ranks, spread
from atoken.training.learner import Learner
from atoken.training.trainer import train

from .conftest import terms


def test_blocks_are_compiled_once_for_all_batches_though_they_are_recomputed(config, tmp_path, monkeypatch):
    counter = CompileCounter()  # hands the traced graphs back as they are
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    torch._dynamo.reset()
    adamw = replace(config.optimizer, muon_lr=None)  # Muon's bf16 would make more of the last digits
    plainly = replace(config, steps=12, optimizer=adamw, log=replace(config.log, every=3))
    compiling = replace(plainly, parallel=replace(config.parallel, compile=True, checkpointing=True))
    train(compiling, tmp_path / "compiled", stop_after=6)
    graphs = counter.frame_count
    assert graphs
    train(compiling, tmp_path / "compiled")
    assert counter.frame_count == graphs
    train(plainly, tmp_path / "plain")
    compiled, plain = terms(tmp_path / "compiled"), terms(tmp_path / "plain")
    for step, values in plain.items():
        assert compiled[step] == pytest.approx(values, rel=1e-3), step


def test_blocks_are_not_compiled_anew_for_every_mixture_of_lengths(monkeypatch):
    counter = CompileCounter()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    torch._dynamo.reset()
    model = AToken(PRESETS["tiny"])
    spread(Learner(model, {}), ParallelConfig(compile=True), Ranks())
    graphs = []
    for mixture in range(1, 11):  # as many runs of equal lengths as the number says
        grids = [dense_coords((1, 1, columns + 1, 1)) for columns in range(mixture)]
        batch = Packed.cat([(torch.zeros(len(grid), 768), grid) for grid in grids])
        assert model.encode_packed(batch, pool=False).moments.isfinite().all()
        graphs.append(counter.frame_count)
    assert graphs[0] > 0
    assert graphs[2] == graphs[-1]
