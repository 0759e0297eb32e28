"""The masked generator's net: probabilities, teacher forcing against steps, packed against alone, sizes."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from flow_parts import IMAGE, PLACES, TEXT, told
from masked_parts import LENGTHS, small, some_codes
from torch.testing import assert_close

from atoken.generation.condition import Condition
from atoken.generation.masked.config import SIZES, MaskedNetConfig, masked_config
from atoken.generation.masked.head import CodeSteps
from atoken.generation.masked.net import MaskedNet, RasterSteps
from refusals import refused

INPUTS = [{}, {"classes": 3}, {"classes": 3, "text_width": TEXT, "image_width": IMAGE}]
ROUNDING = {"atol": 1e-4, "rtol": 1e-4}
"""Sums of some dozens of fp32 numbers in another order (2^-24 each), through some blocks."""
COORDS = torch.cat(PLACES)
CODES = some_codes(len(COORDS))
KNOWN = torch.rand(len(COORDS), generator=torch.Generator().manual_seed(1)) < 0.4
KNOWN[: LENGTHS[0]] = False  # a sample of which nothing is known


def log_probabilities(logits: list[torch.Tensor], codes: torch.Tensor) -> torch.Tensor:
    """[M, G] of codes [M, G]."""
    return torch.stack([own.log_softmax(-1).gather(1, codes[:, g : g + 1])[:, 0] for g, own in enumerate(logits)], 1)


def parameters(config: MaskedNetConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in MaskedNet(config).parameters())


def test_probabilities_of_all_tokens_sum_to_one():
    net = small()
    every = torch.tensor(list(product(range(4), range(3), range(6))))
    features = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for one in features:
            found = log_probabilities(net.head(one.expand(len(every), -1), every), every).sum(1).exp()
            assert found.std() > 0
            assert_close(found.sum(), torch.tensor(1.0))


def test_every_code_depends_on_all_before_it_and_none_after():
    net = small()
    features, codes = torch.randn(1, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([[1, 0, 2]])
    with torch.no_grad():
        before = net.head(features, codes)
        for group in range(3):
            for other in range(1, 4 if group == 0 else 3):  # each value of a code, so each of its levels
                changed = codes.clone()
                changed[0, group] = (codes[0, group] + other) % (4, 3, 6)[group]
                after = net.head(features, changed)
                for g in range(3):
                    assert torch.equal(before[g], after[g]) == (g <= group)


def test_steps_over_codes_are_the_whole_at_once():
    net = small()
    features, codes = torch.randn(7, 32, generator=torch.Generator().manual_seed(0)), some_codes(7)
    with torch.no_grad():
        together, steps = net.head(features, codes), CodeSteps(net.head, features)
        for g in range(3):
            assert_close(steps.next(codes[:, g - 1] if g else None), together[g], **ROUNDING)


@pytest.mark.parametrize("inputs", INPUTS)
def test_steps_over_locations_are_the_whole_at_once(inputs):
    net = small(order="raster", **inputs)
    condition = net.told(told(net), len(PLACES))
    with torch.no_grad():
        together = net.raster(CODES, COORDS, LENGTHS, condition).split(LENGTHS)
        steps, codes = RasterSteps(net, condition), CODES.split(LENGTHS)
        for i in range(max(LENGTHS)):
            here = [min(i, length - 1) for length in LENGTHS]
            places = torch.stack([own[n] for own, n in zip(PLACES, here, strict=True)])
            before = torch.stack([own[min(i, length) - 1] for own, length in zip(codes, LENGTHS, strict=True)])
            found = steps.next(before if i else None, places)
            for own, whole, length in zip(found, together, LENGTHS, strict=True):
                if i < length:
                    assert_close(own, whole[i], **ROUNDING)


@pytest.mark.parametrize("order", ["random", "raster"])
@pytest.mark.parametrize("inputs", INPUTS)
def test_packed_is_each_alone(inputs, order):
    net = small(order=order, **inputs)

    def features(codes, known, coords, lengths, condition):
        what = net.told(condition, len(lengths))
        if order == "raster":
            return net.raster(codes, coords, lengths, what)
        return net.features(codes, known, coords, lengths, what)

    with torch.no_grad():
        together = features(CODES, KNOWN, COORDS, LENGTHS, told(net)).split(LENGTHS)
        parts = zip(CODES.split(LENGTHS), KNOWN.split(LENGTHS), PLACES, strict=True)
        for i, (codes, known, places) in enumerate(parts):
            alone = features(codes, known, places, [len(places)], told(net).part(i, i + 1))
            assert_close(alone, together[i], **ROUNDING)


def test_known_codes_are_seen_and_unknown_ones_are_not():
    net = small()
    other = (CODES + 1) % torch.tensor([4, 3, 6])
    condition = net.told(Condition(), len(PLACES))
    with torch.no_grad():
        before, unseen, seen = (
            net.features(codes, KNOWN, COORDS, LENGTHS, condition)
            for codes in (CODES, CODES.where(KNOWN[:, None], other), other.where(KNOWN[:, None], CODES))
        )
    assert torch.equal(before, unseen)
    for was, now, known in zip(before.split(LENGTHS), seen.split(LENGTHS), KNOWN.split(LENGTHS), strict=True):
        assert bool((was != now).any(1).all()) == bool(known.any())


def test_a_new_net_finds_all_codes_as_probable_and_learns_everywhere():
    inputs = {"classes": 3, "text_width": TEXT, "image_width": IMAGE}
    new = MaskedNet(small(**inputs).config)
    assert not any(logits.any() for logits in new.head(torch.randn(2, 32), some_codes(2)))
    for order in ("random", "raster"):
        net = small(order=order, **inputs).train()
        condition = net.told(told(net), len(PLACES))
        if order == "random":
            features = net.features(CODES, KNOWN, COORDS, LENGTHS, condition)
        else:
            features = net.raster(CODES, COORDS, LENGTHS, condition)
        (-log_probabilities(net.head(features, CODES), CODES).sum()).backward()
        assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.slow
def test_sizes():
    # AToken's paper has 548 M: TokenBridge-L (486 M) with eight full tables of 4096 in and out. Tables in are sums of
    # six of four rows here, 29.4 M less; the rest are learnt places.
    assert abs(parameters(masked_config("L", classes=1000)) / 1e6 - (548 - 29.4)) < 10
    # int8 is a byte a weight; what is not a matrix of a linear layer has two
    assert parameters(masked_config("nano", text_width=384)) < 9.6e6


def test_configs_that_do_not_fit():
    with refused("M", *SIZES):
        masked_config("M")
    whole = vars(small().config)
    for wrong in ({"heads": 3}, {"head_heads": 5}, {"start_tokens": 0}, {"order": "spiral"}, {"head_depth": 10**6}):
        with refused(*wrong):
            MaskedNetConfig(**whole | wrong)
    for levels in ((), ((),), ((1, 4),), ((2,) * 17,)):
        with refused("levels"):
            MaskedNetConfig(**whole | {"levels": levels})
