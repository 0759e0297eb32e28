"""What a record says of several ranks."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from atoken.tokens import dense_coords
from atoken.training.batch import Sample, pack
from atoken.training.distributed import Ranks
from atoken.training.meter import Meter

from .conftest import SMALL


class Threads(Ranks):
    """Ranks of one process, each in a thread of its own."""

    barrier, said = threading.Barrier(2), [None, None]

    def gather(self, value):
        self.said[self.rank] = value
        self.barrier.wait(30)
        said = list(self.said)
        self.barrier.wait(30)
        return said

    def mean(self, values):
        return [sum(each) / self.world for each in zip(*self.gather(values), strict=True)]


def test_a_term_that_some_ranks_do_not_have_is_a_mean_over_those_that_do():
    picture = pack([Sample("image", torch.zeros(4, 768), dense_coords((1, 2, 2, 1)), (1, 2, 2, 1))])
    seen = ([{"l1": 1.0}, {"l1": 3.0, "lpips": 5.0}], [{"l1": 2.0}])

    def run(rank):
        meter = Meter(SMALL, Threads(rank, world=2), autocast=False)
        for terms in seen[rank]:
            meter.add("images", {name: torch.tensor(value) for name, value in terms.items()}, 1.0, picture)
        return meter.read()

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(run, range(2))
    assert (one["images/l1"], one["images/lpips"]) == pytest.approx((2.0, 5.0))
    assert set(one) == set(other)


def test_what_is_decoded_once_is_no_arithmetic_of_a_step():
    asset = pack([Sample("3d", torch.zeros(4, 768), dense_coords((1, 2, 2, 1)), (1, 2, 2, 1))])
    meter = Meter(SMALL, Ranks(), autocast=False)
    meter.add("3d-gaussians", {"render_l1": torch.tensor(1.0)}, 1.0, asset)
    assert (meter.flops, meter.tokens) == (0, 4)
    meter.add("3d-reconstruction", {"l1": torch.tensor(1.0)}, 1.0, asset)
    assert meter.flops > 0
    assert set(meter.read()) >= {"3d-gaussians/render_l1", "3d-reconstruction/l1"}
