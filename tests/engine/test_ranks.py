"""Two processes compute what one does, and a checkpoint of two goes on in one."""

import json
import pickle
import sys
import time
import weakref
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from atoken.data.batch import Batch, pack
from atoken.data.crops import Crops
from atoken.engine.ranks import joined
from atoken.train import trainer
from atoken.train.trainer import train
from train.conftest import SMALL, terms
from train.test_tasks import Words

PATIENCE = 240
"""Seconds, after which a process that waits for another one is taken for stuck."""


class Shared:
    """The batches of a single process, of which each of ``world`` ranks takes its part."""

    def __init__(self, task, rank, world):
        self.feed, self.rank, self.world = Crops(task.crops, task.tokens, 0), rank, world

    def batch(self, number) -> Batch:
        whole = self.feed.batch(number)
        parts = whole.packed.feats.split(whole.packed.lengths)
        coords = whole.packed.coords[:, 1:].split(whole.packed.lengths)
        samples = [replace(s, feats=f, coords=c) for s, f, c in zip(whole.samples, parts, coords, strict=True)]
        size = len(samples) // self.world
        return pack(samples[self.rank * size : (self.rank + 1) * size], whole.seed)


def patch_run(patch: pytest.MonkeyPatch) -> None:
    """Batches shared by the ranks, and a text tower that needs no package."""
    patch.setattr(trainer, "build_feed", lambda task, seed, rank, world, cursor=None: Shared(task, rank, world))
    patch.setattr("atoken.train.networks.text", lambda name, device: Words())
    patch.setattr("atoken.train.config.MINILM_WIDTH", Words.width)


def work(rank: int, world: int, folder: str, stop_after: int | None) -> None:
    """One process of a run whose config lies in ``folder``."""
    import os

    from atoken.tokenizer.config import PRESETS

    os.environ |= {
        "WORLD_SIZE": str(world),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": (Path(folder) / "port").read_text(),
    }
    torch.set_num_threads(1)
    PRESETS["small"] = SMALL
    patch_run(pytest.MonkeyPatch())
    config = pickle.loads((Path(folder) / "config").read_bytes())
    train(config, Path(folder) / "run", stop_after=stop_after)


def run_two(config, folder, stop_after=None):
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir()
    (folder / "port").write_text(str(port))
    (folder / "config").write_bytes(pickle.dumps(config))
    processes = mp.spawn(work, (2, str(folder), stop_after), nprocs=2, join=False)
    end = time.monotonic() + PATIENCE
    try:
        while not processes.join(timeout=1):  # true once all have ended
            assert time.monotonic() < end, f"a process still runs after {PATIENCE} s"
    finally:
        for process in processes.processes:
            process.kill()
    return folder / "run"


@pytest.fixture
def rounded(config, folder):
    """Discrete, so that no noise is drawn, on crops of one size, so that both ranks have equally many tokens.

    A task about text, which leaves the decoder unused, joins every step, as in the paper's stages.
    """
    entries = json.loads((folder / "train.json").read_text())
    captioned = [{**entry, "caption": f"picture {number}"} for number, entry in enumerate(entries)]
    (folder / "train.json").write_text(json.dumps(captioned))
    task = replace(config.tasks[0], accumulate=2, crops=replace(config.tasks[0].crops, sizes=(32,), shares=(1.0,)))
    return replace(
        config,
        tasks=(replace(task, task="image-captions", ratio=None, accumulate=1), task),
        start=None,
        quantize=True,
        # Ranks add up in another order, and Adam's m / sqrt(v) enlarges fp32's rounding in proportion to lr.
        optimizer=replace(config.optimizer, muon_lr=None, lr=1e-4),
        loss=replace(config.loss, log_mse=0.1),
        log=replace(config.log, every=1),
    )


@pytest.mark.slow
@pytest.mark.parametrize("error", [None, ValueError])
def test_nothing_outlives_the_group_of_processes(monkeypatch, error):
    spread: list[weakref.ref] = []
    alive: list[bool] = []

    def work():
        learner = torch.nn.Linear(1, 1)
        learner.itself = [learner]
        spread.append(weakref.ref(learner))
        if error:
            raise error

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(dist, "init_process_group", lambda backend: None)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: alive.append(spread[0]() is not None))
    with pytest.raises(error) if error else nullcontext(), joined("cpu"):
        work()
    assert alive == [False]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="gloo")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_compute_what_one_does(rounded, tmp_path, monkeypatch, strategy):
    patch_run(monkeypatch)
    alone = train(rounded, tmp_path / "alone")
    several = replace(rounded, parallel=replace(rounded.parallel, strategy=strategy))
    both = run_two(several, tmp_path / "both", stop_after=4)
    expected = terms(tmp_path / "alone")
    for step, values in terms(both).items():
        assert values == pytest.approx(expected[step], rel=2e-4), step
    continued = train(rounded, both)  # one process goes on from the checkpoint of two
    assert terms(both)[6] == pytest.approx(expected[6], rel=2e-4)
    torch.testing.assert_close(continued.state_dict(), alone.state_dict(), atol=2e-4, rtol=1e-3)
