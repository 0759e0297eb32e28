"""What a masked generator learns: how much is hidden, that it counts alone, and that a batch is learnt by heart."""

from __future__ import annotations

import math

import pytest
import torch
from flow_parts import PLACES, told
from masked_parts import LENGTHS, small, some_codes
from torch.testing import assert_close

from atoken.generation.condition import Condition
from atoken.generation.masked.config import MaskedObjectiveConfig, MaskedSampleConfig
from atoken.generation.masked.net import MaskedNet
from atoken.generation.masked.objective import CodeBatch, MaskedObjective, draw_hidden, draw_ratio
from atoken.generation.masked.sampler import draw
from atoken.nn.packed import dense_coords
from refusals import refused

CODES = some_codes(sum(LENGTHS))
COORDS = torch.cat([torch.cat([torch.full((len(own), 1), i), own], 1) for i, own in enumerate(PLACES)])


def test_ratios_are_a_normal_distribution_cut_to_its_ends():
    generator = torch.Generator().manual_seed(0)
    ratios = torch.tensor([draw_ratio(MaskedObjectiveConfig(), generator) for _ in range(2000)])
    assert 0.7 <= float(ratios.min()) < 0.705
    assert 0.995 < float(ratios.max()) <= 1
    # the lower half of a normal distribution, cut at a = 1.2 deviations, has its mean below 1 by
    # std (1 - exp(-a^2 / 2)) sqrt(2 / pi) / erf(a / sqrt 2)
    below = (1 - math.exp(-0.72)) * math.sqrt(2 / math.pi) / math.erf(1.2 / math.sqrt(2))
    assert abs(float(ratios.mean()) - (1 - 0.25 * below)) < 4 * 0.085 / 2000**0.5  # deviation of one draw: 0.085


def test_the_same_share_of_each_sample_is_hidden():
    hidden = draw_hidden([10, 1, 256], 0.73, torch.Generator().manual_seed(0)).split([10, 1, 256])
    assert [int(own.sum()) for own in hidden] == [8, 1, 187]
    assert not torch.equal(hidden[2].nonzero()[:, 0], torch.arange(187))
    for wrong in ({"mask_std": 0.0}, {"mask_least": 1.0}, {"drop": 1.0}, {"mask_mean": 9.0}):
        with refused(*wrong):
            MaskedObjectiveConfig(**wrong)


@pytest.mark.parametrize("order", ["random", "raster"])
def test_a_new_net_has_the_entropy_of_equal_codes(order):
    net = MaskedNet(small(classes=3, order=order).config)
    learner = MaskedObjective(net, MaskedObjectiveConfig())
    batch = CodeBatch(CODES, COORDS, told(net), 0)
    terms = learner(batch)
    wanted = torch.tensor([4.0, 3.0, 6.0]).log()
    assert_close(torch.stack([terms[f"cross_entropy_{g}"] for g in range(3)]), wanted)
    assert_close(terms["cross_entropy"], wanted.mean())
    assert set(learner.weights) == set(terms)


def test_all_chance_is_in_the_seed():
    net = small(classes=3)
    learner = MaskedObjective(net, MaskedObjectiveConfig(drop=0.5))
    losses = [learner(CodeBatch(CODES, COORDS, told(net), seed))["cross_entropy"].item() for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_raster_order_counts_every_location_once():
    net = small(classes=3, order="raster")
    learner = MaskedObjective(net, MaskedObjectiveConfig(drop=0.0))
    whole = learner(CodeBatch(CODES, COORDS, told(net), 0))["cross_entropy"]
    parts, start = 0.0, 0
    for i, length in enumerate(LENGTHS):
        own = COORDS[start : start + length].clone()
        own[:, 0] = 0
        batch = CodeBatch(CODES[start : start + length], own, told(net).part(i, i + 1), 0)
        parts += learner(batch)["cross_entropy"].item() * length
        start += length
    assert abs(whole.item() - parts / sum(LENGTHS)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("order", ["random", "raster"])
def test_one_batch_is_learnt_by_heart(order):
    torch.manual_seed(0)
    config = small(classes=2, order=order, levels=((4,) * 3,) * 3).config
    net = MaskedNet(config)
    learner = MaskedObjective(net, MaskedObjectiveConfig(drop=0.0))
    places = [dense_coords((1, 3, 3, 1)), dense_coords((1, 2, 4, 1))]
    codes = [some_codes(len(own), config.levels, seed) for seed, own in enumerate(places)]
    copies = 4
    coords = torch.cat([torch.cat([torch.full((len(own), 1), i), own], 1) for i, own in enumerate(places * copies)])
    condition = Condition(torch.tensor([0, 1] * copies))
    optimizer = torch.optim.AdamW(net.parameters(), 5e-3, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(400):
        loss = learner(CodeBatch(torch.cat(codes * copies), coords, condition, step))["cross_entropy"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    for temperature in (0.0, 0.1):
        options = MaskedSampleConfig(steps=5, temperature=temperature)
        drawn = draw(net.eval(), places, Condition(torch.tensor([0, 1])), [3, 4], options)
        assert all(torch.equal(found, wanted) for found, wanted in zip(drawn, codes, strict=True))
