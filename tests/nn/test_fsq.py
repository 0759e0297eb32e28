"""Quantization: codes and indices are exact inverses, for equal and for unequal levels."""

from __future__ import annotations

import pytest
import torch

from atoken.nn.fsq import FSQ
from refusals import refused

UNEQUAL = ((64, 64), (16, 5, 3), (2, 3, 4, 5))


@pytest.mark.parametrize("groups", [((4,) * 6,) * 8, UNEQUAL])
def test_indices_and_codes_are_inverses(groups):
    fsq = FSQ(groups)
    generator = torch.Generator().manual_seed(0)
    indices = torch.stack([torch.randint(size, (5000,), generator=generator) for size in fsq.codebook_sizes], -1)
    codes = fsq.indices_to_codes(indices)
    assert codes.shape == (5000, sum(map(len, groups)))
    assert codes.abs().max() <= 1
    assert torch.equal(fsq.codes_to_indices(codes), indices)


def test_every_level_is_reached_and_none_beyond():
    fsq = FSQ(UNEQUAL)
    z = torch.linspace(-9, 9, 20001)[:, None].expand(-1, 9)
    codes = fsq(z)
    assert [len(codes[:, i].unique()) for i in range(9)] == [level for group in UNEQUAL for level in group]
    assert torch.equal(fsq.indices_to_codes(fsq.codes_to_indices(codes)), codes)


@pytest.mark.slow
@pytest.mark.parametrize("levels", [1001, 1002, 1003, 1500, 2047, 2048, 4095, 4096, 65536])
def test_many_levels_end_where_they_should(levels):
    """The bound overshoots the last level by 0.0005 (L - 1), which is half a level and more from 1,002 levels on."""
    fsq = FSQ(((levels,),))
    z = torch.linspace(-9, 9, 40 * levels).clamp(-50, 50)
    z = torch.cat([torch.tensor([-50.0, -1e30]), z, torch.tensor([50.0, 1e30])])[:, None]
    indices = fsq.codes_to_indices(fsq(z))
    assert (int(indices.min()), int(indices.max())) == (0, levels - 1)
    assert len(indices.unique()) == levels
    assert torch.equal(fsq.codes_to_indices(fsq.indices_to_codes(indices)), indices)
    assert fsq(z).abs().max() <= 1


def test_many_levels_do_not_spill_into_the_next_number():
    fsq = FSQ(((2048, 2),))
    z = torch.tensor([[50.0, -50.0], [-50.0, 50.0]])
    assert fsq.codes_to_indices(fsq(z)).tolist() == [[2047], [2048]]
    assert torch.equal(fsq.indices_to_codes(torch.tensor([[2047], [2048]])), fsq(z))


def test_the_gradient_passes_through_the_rounding():
    z = torch.randn(7, 9, requires_grad=True)
    FSQ(UNEQUAL)(z).sum().backward()
    assert z.grad is not None
    assert (z.grad > 0).all()


def test_stays_fp32():
    z = torch.randn(3, 9).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        codes = FSQ(UNEQUAL)(z)
    assert codes.dtype == torch.float32
    assert torch.equal(codes, FSQ(UNEQUAL)(z.float()))


@pytest.mark.parametrize("bad", [[4096, 0, 0], [-1, 0, 0], [0, 0]])
def test_refuses_what_is_no_index(bad):
    with refused("code"):
        FSQ(UNEQUAL).indices_to_codes(torch.tensor([bad]))
