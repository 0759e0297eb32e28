"""Batches prepared by processes: the same run as without them, and errors as one sentence."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from dataclasses import replace

import pytest
import torch

from atoken.data.batch import Sample, Targets, pack
from atoken.data.feeds import build_feed
from atoken.data.workers import ByWorkers, _Numbered, shared, worker_killed_as_oserror
from atoken.media.views.cameras import Cameras
from atoken.nn.packed import dense_coords
from atoken.train.config import TaskConfig
from atoken.train.trainer import train
from refusals import refused

from .conftest import terms


@pytest.mark.slow
def test_a_run_with_workers_is_the_run_without(config, tmp_path):
    helped = replace(config, tasks=(replace(config.tasks[0], workers=2),))
    train(config, tmp_path / "one")
    train(helped, tmp_path / "other", stop_after=4)
    train(helped, tmp_path / "other")
    one, other = terms(tmp_path / "one"), terms(tmp_path / "other")
    assert len(one) == 3
    assert one == other


@pytest.mark.slow
def test_batches_come_in_order_from_any_number(config):
    feed = build_feed(config.tasks[0], 0)
    ahead = build_feed(replace(config.tasks[0], workers=3), 0)
    assert isinstance(ahead, ByWorkers)
    for number in (5, 6, 7, 8, 2):
        there, here = ahead.batch(number), feed.batch(number)
        assert torch.equal(there.packed.feats, here.packed.feats)
        assert torch.equal(there.packed.coords, here.packed.coords)
        assert there.seed == here.seed
        assert [sample.grid for sample in there.samples] == [sample.grid for sample in here.samples]


def test_a_batch_reaches_another_process_whole():
    coords, grid = dense_coords((1, 2, 2, 1)), (1, 2, 2, 1)
    seen = Targets(torch.rand(2, 3, 8, 8), Cameras(torch.eye(4).expand(2, 4, 4), torch.eye(3).expand(2, 3, 3), (8, 8)))
    sample = Sample("3d", torch.rand(4, 768), coords, grid, "a chair", torch.rand(5), seen)
    batch = pack([sample, replace(sample, caption=None, scores=None, views=None)], 7, {"used": 3})
    there = pickle.loads(pickle.dumps(shared(batch)))
    assert (there.seed, there.cursor, [s.caption for s in there.samples]) == (7, {"used": 3}, ["a chair", None])
    assert torch.equal(there.packed.feats, batch.packed.feats)
    assert torch.equal(there.packed.coords, batch.packed.coords)
    first, second = there.samples
    assert (first.modality, first.grid, first.feats.shape) == ("3d", grid, (0, 768))
    assert torch.equal(first.scores, sample.scores)
    assert torch.equal(first.coords, coords)
    assert torch.equal(first.views.pictures, seen.pictures)
    assert torch.equal(first.views.cameras.intrinsics, seen.cameras.intrinsics)
    assert (second.scores, second.views) == (None, None)


class Broken:
    def batch(self, number):
        raise FileNotFoundError("no file") if number else ValueError("no batch")


class Killed:
    def batch(self, number):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("number", "error"), [(0, ValueError), (1, FileNotFoundError)])
def test_what_a_worker_refuses_is_said_as_it_is(number, error):
    with pytest.raises(error, match=r"^no (batch|file)$"):
        ByWorkers(Broken, 1).batch(number)


def test_a_feed_that_a_worker_cannot_build_is_said_as_it_is():
    def gone():
        raise FileNotFoundError("no feed")

    found = _Numbered(gone)[0]
    assert isinstance(found, FileNotFoundError)
    assert str(found) == "no feed"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_worker_that_is_killed_is_one_sentence():
    with refused("killed", "workers", error=OSError), worker_killed_as_oserror():
        ByWorkers(Killed, 1).batch(0)
    with pytest.raises(RuntimeError, match="another"), worker_killed_as_oserror():
        raise RuntimeError("another")


@pytest.mark.slow
def test_a_batch_without_room_is_one_sentence_and_not_waited_for(config, monkeypatch):
    def full(self):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch>: No space left on device (28)")

    ahead = build_feed(replace(config.tasks[0], workers=1), 0)
    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    found = _Numbered(ahead.build)[0]
    assert isinstance(found, OSError)
    assert str(found).startswith("no room for a batch of 0.198 MB in the memory that processes share: take fewer")


def test_missing_data_is_said_before_any_worker_starts(config, tmp_path):
    task = replace(config.tasks[0], workers=2, crops=replace(config.tasks[0].crops, path=str(tmp_path / "none")))
    with refused("none", "data.py", error=FileNotFoundError):
        build_feed(task, 0)


@pytest.mark.parametrize("workers", [-1, 1])
def test_workers_that_cannot_be(workers):
    shards = {"shards": {"shards": ("x",)}} if workers > 0 else {}
    with refused("workers", "image-reconstruction"):
        TaskConfig("image-reconstruction", tokens=64, workers=workers, **shards)
