"""What a record says of several ranks."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from atoken.engine import checkpoints, flops
from atoken.engine.ema import EMA
from atoken.engine.flops import H100_PEAK, device_peak
from atoken.engine.metrics import Metrics
from atoken.engine.ranks import EndedByOthers, Ranks
from refusals import check_names


class Threads(Ranks):
    """Ranks of one process, each in a thread of its own."""

    barrier, said = threading.Barrier(2), [None, None]

    def gather(self, value):
        self.said[self.rank] = value
        self.barrier.wait(600)
        said = list(self.said)
        self.barrier.wait(600)
        return said

    def mean(self, values):
        return [sum(each) / self.world for each in zip(*self.gather(values), strict=True)]


@pytest.mark.slow
def test_a_term_that_some_ranks_do_not_have_is_a_mean_over_those_that_do():
    seen = ([{"l1": 1.0}, {"l1": 3.0, "lpips": 5.0}], [{"l1": 2.0}])

    def run(rank):
        metrics = Metrics(Threads(rank, world=2), autocast=False)
        for terms in seen[rank]:
            metrics.add("images", {name: torch.tensor(value) for name, value in terms.items()}, 1.0, 4, 0.0)
        return metrics.read()

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(run, range(2))
    assert (one["images/l1"], one["images/lpips"]) == pytest.approx((2.0, 5.0))
    assert set(one) == set(other)


def test_mfu_goes_by_the_data_sheet_of_a_known_card(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    assert device_peak("cuda:0", autocast=True) == device_peak("cuda:0", autocast=False) == H100_PEAK
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100-SXM4-80GB")
    assert device_peak("cuda", autocast=True) == 312e12
    monkeypatch.setattr(flops, "matmul_peak", lambda device, dtype: 7.0 if dtype == torch.bfloat16 else 5.0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "something new")
    assert (device_peak("cuda", True), device_peak("cpu", True), device_peak("cpu", False)) == (7.0, 7.0, 5.0)


def test_what_fails_on_one_rank_ends_all_and_is_said_by_the_first():
    """The others waited for it until a time-out."""

    def run(rank, failing):
        try:
            with Threads(rank, world=2).together():
                if rank == failing:
                    raise FileNotFoundError(2, "No such file", "gone.tar")
        except (OSError, EndedByOthers) as error:
            return error
        return None

    with ThreadPoolExecutor(2) as pool:
        for failing in (0, 1):
            first, other = pool.map(run, range(2), [failing] * 2)
            assert (type(first), first.filename, type(other)) == (FileNotFoundError, "gone.tar", EndedByOthers)
        assert list(pool.map(run, range(2), [2, 2])) == [None, None]


def test_a_full_disk_of_the_first_rank_ends_the_others(monkeypatch, tmp_path):
    """It failed between two barriers, at which the others waited."""
    monkeypatch.setattr(checkpoints.dcp, "save", lambda *_, **__: None)

    def full(facts):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "sealed", full)

    def run(rank):
        module = torch.nn.Linear(2, 1)
        saver = checkpoints.Checkpoints(tmp_path / "checkpoints", 2, Threads(rank, world=2))
        try:
            saver.save(checkpoints.Progress(1, 0, [{}, {}]), {}, module, EMA(module, 0.9), {})
        except (OSError, EndedByOthers) as error:
            return error
        return None

    with ThreadPoolExecutor(2) as pool:
        first, other = pool.map(run, range(2))
    assert isinstance(other, EndedByOthers)
    check_names(str(first), "step-0000001", "No space left on device")
    assert list((tmp_path / "checkpoints").iterdir()) == []
