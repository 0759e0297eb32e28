"""Crops of a memory-mapped collection."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from atoken.data.config import CropsConfig
from atoken.data.crops import Crops
from refusals import refused


@pytest.fixture
def crops(folder):
    return CropsConfig(str(folder), (32, 64), (0.5, 0.5))


def test_batches_are_the_same_in_every_run_and_differ_between_steps_and_ranks(crops):
    data, again = (Crops(crops, 64, seed=0) for _ in range(2))
    batches = [data.batch(step).packed for step in range(8)]
    for step in (5, 0, 3):
        assert torch.equal(again.batch(step).packed.feats, batches[step].feats)
    assert len({float(batch.feats.sum()) for batch in batches}) == 8
    assert {tuple(batch.lengths) for batch in batches} == {(4,) * 16, (16,) * 4}
    assert all(batch.feats.abs().max() <= 1 for batch in batches)
    assert not torch.equal(Crops(crops, 64, seed=1).batch(0).packed.feats, batches[0].feats)
    assert not torch.equal(Crops(crops, 64, seed=0, rank=1).batch(0).packed.feats, batches[0].feats)
    assert data.batch(0).seed != data.batch(1).seed


def test_pictures_come_back_from_their_patches(crops):
    batch = Crops(crops, 64, seed=0).batch(0)
    pictures = batch.pictures(batch.packed.feats)
    assert len(pictures) == len(batch.samples)
    side = pictures[0].shape[-1]
    first = batch.packed.feats[0].view(16, 16, 3).permute(2, 0, 1)
    assert torch.equal(pictures[0][:, :16, :16], first)
    assert side in (32, 64)


def test_data_that_is_missing_or_too_small(crops, tmp_path):
    with refused("data.py", error=FileNotFoundError):
        Crops(CropsConfig(str(tmp_path / "none")), 64, 0)
    with refused("112"):
        Crops(replace(crops, sizes=(112,), shares=(1.0,)), 64, 0)
    with refused("8"):
        Crops(crops, 8, 0)


def test_what_a_teacher_said_comes_with_the_pictures(crops, folder):
    assert Crops(crops, 64, seed=0).batch(0).scores is None
    told = np.arange(6, dtype=np.float16).reshape(3, 2)
    np.save(folder / "scores.npy", told)
    batch = Crops(replace(crops, sizes=(32,), shares=(1.0,)), 64, seed=0).batch(0)
    assert batch.scores.dtype == torch.float32
    rows = {tuple(row) for row in batch.scores.tolist()}
    assert len(rows) > 1
    assert rows <= {tuple(row) for row in told.tolist()}
