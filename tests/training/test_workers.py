"""Batches prepared by processes: the same run as without them, and errors as one sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from atoken.training.config import TaskConfig
from atoken.training.distributed import Ranks
from atoken.training.feeds import build_feed
from atoken.training.trainer import train
from atoken.training.workers import ByWorkers

from .conftest import terms


def test_a_run_with_workers_is_the_run_without(config, tmp_path):
    helped = replace(config, tasks=(replace(config.tasks[0], workers=2),))
    train(config, tmp_path / "one")
    train(helped, tmp_path / "other", stop_after=4)
    train(helped, tmp_path / "other")
    one, other = terms(tmp_path / "one"), terms(tmp_path / "other")
    assert len(one) == 3
    assert one == other


def test_batches_come_in_order_from_any_number(config):
    feed = build_feed(config.tasks[0], 0, Ranks())
    ahead = build_feed(replace(config.tasks[0], workers=3), 0, Ranks())
    assert isinstance(ahead, ByWorkers)
    for number in (5, 6, 7, 8, 2):
        there, here = ahead.batch(number), feed.batch(number)
        assert torch.equal(there.packed.feats, here.packed.feats)
        assert torch.equal(there.packed.coords, here.packed.coords)
        assert there.seed == here.seed
        assert [sample.grid for sample in there.samples] == [sample.grid for sample in here.samples]


class Broken:
    def batch(self, number):
        raise ValueError(f"no batch {number}")


def test_what_a_worker_refuses_is_said_as_it_is():
    with pytest.raises(ValueError, match=r"^no batch 3$"):
        ByWorkers(Broken, 1).batch(3)


def test_missing_data_is_said_before_any_worker_starts(config, tmp_path):
    task = replace(config.tasks[0], workers=2, crops=replace(config.tasks[0].crops, path=str(tmp_path / "none")))
    with pytest.raises(FileNotFoundError, match="no training data"):
        build_feed(task, 0, Ranks())


@pytest.mark.parametrize("workers", [-1, 1])
def test_workers_that_cannot_be(workers):
    shards = {"shards": {"shards": ("x",)}} if workers > 0 else {}
    with pytest.raises(ValueError, match="workers of image-reconstruction must be 0 or more"):
        TaskConfig("image-reconstruction", tokens=64, workers=workers, **shards)
