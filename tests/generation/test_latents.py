"""Latents of mean 0 and variance 1, and back."""

from __future__ import annotations

import pytest
import torch
from flow_parts import rand
from torch.testing import assert_close

from atoken.generation.latents import Normaliser
from refusals import refused

LATENTS = (rand(500, 6) @ rand(6, 6, seed=1)) * torch.tensor([0.1, 1, 3, 10, 30, 1]) + 5


@pytest.mark.parametrize("whiten", [False, True])
def test_normalised_and_restored(whiten):
    stats = Normaliser.of(LATENTS.split(100), whiten=whiten)
    x = stats.normalise(LATENTS)
    assert_close(x.mean(0), torch.zeros(6), atol=1e-4, rtol=0)
    assert_close(x.std(0), torch.ones(6), atol=1e-3, rtol=0)
    # fp32 sums of six numbers up to 100, whose small eigenvalues are differences of large ones
    assert_close(stats.restore(x), LATENTS, atol=1e-3, rtol=1e-4)
    if whiten:
        assert_close(torch.cov(x.T), torch.eye(6), atol=2e-2, rtol=0)


def test_a_channel_that_never_varies_stays_finite():
    latents = LATENTS.clone()
    latents[:, 2] = 7.0
    for whiten in (False, True):
        stats = Normaliser.of([latents], whiten=whiten)
        assert torch.isfinite(stats.normalise(latents)).all()


def test_statistics_that_do_not_fit():
    one = torch.ones(3)
    for mean, std, basis in (
        (one, torch.ones(2), None),
        (one, one, torch.eye(2)),
        (one, one * 0, None),
        (one * torch.nan, one, None),
    ):
        with refused("statistics"):
            Normaliser(mean, std, basis)
    with refused("2", "1"):
        Normaliser.of([LATENTS[:1]])
