"""Drawing of codes: schedule, chances, guidance, and what cannot be drawn."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
import torch
from flow_parts import PLACES, told
from masked_parts import LENGTHS, small, some_codes
from torch.testing import assert_close

from atoken.generation.condition import Condition
from atoken.generation.masked import sampler
from atoken.generation.masked.config import MaskedSampleConfig
from atoken.generation.masked.sampler import choose, draw, unknown_after
from refusals import refused

ORDERS = ["random", pytest.param("raster", marks=pytest.mark.slow)]


def test_a_cosine_makes_locations_known_and_all_of_them():
    assert unknown_after(256, 4) == [236, 181, 97, 0]  # 256 cos(pi s / 8)
    for length, steps in product((1, 2, 7, 256), (1, 3, 64, 300)):
        left = [length, *unknown_after(length, steps)]
        assert left[-1] == 0
        assert len(left) == min(steps, length) + 1
        assert all(a > b for a, b in pairwise(left))


def test_codes_are_chosen_as_often_as_they_are_probable():
    logits = torch.tensor([0.0, 1.0, -torch.inf, -1.0]).clamp_min(-1e9)
    chance = torch.linspace(0, 1, 4001, dtype=torch.float64)[:-1]
    for temperature in (1.0, 0.5):
        found = choose(logits.expand(4000, -1), chance, temperature)
        shares = torch.bincount(found, minlength=4) / 4000
        assert_close(shares, (logits / temperature).softmax(-1), atol=2 / 4000, rtol=0)
    assert (choose(logits.expand(4000, -1), chance, 0.0) == 1).all()


@pytest.mark.parametrize("order", ["random", "raster"])
def test_codes_are_drawn_with_the_probabilities_of_training(order, monkeypatch):
    """The product of what is drawn from, step by step, is the likelihood that training computes."""
    net, seen = small(classes=3, order=order), []

    def spy(logits, chance, temperature):
        code = choose(logits, chance, temperature)
        seen.append(logits.log_softmax(-1).gather(1, code[:, None])[:, 0])
        return code

    monkeypatch.setattr(sampler, "choose", spy)
    condition, length = Condition(torch.tensor([1])), LENGTHS[2]
    codes = draw(net, PLACES[2:3], condition, [5], MaskedSampleConfig(steps=length))[0]
    drawn = torch.stack(seen).view(length, 3)
    order_of = sampler.chances_of([5], [length], 3)[0][0] if order == "random" else torch.arange(length)
    what = net.told(condition, 1)
    with torch.no_grad():
        for step, location in enumerate(order_of.tolist()):
            if order == "random":
                known = torch.zeros(length, dtype=torch.bool)
                known[order_of[:step]] = True
                features = net.features(codes, known, PLACES[2], [length], what)
            else:
                features = net.raster(codes, PLACES[2], [length], what)
            logits = net.head(features[location : location + 1], codes[location : location + 1])
            wanted = [own.log_softmax(-1)[0, codes[location, g]] for g, own in enumerate(logits)]
            assert_close(drawn[step], torch.stack(wanted), atol=1e-4, rtol=1e-4)  # some fp32 blocks in another order


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_a_sample_does_not_depend_on_its_batch(order):
    net = small(classes=3, order=order)
    condition, seeds = told(net), [5, 6, 7, 5]
    options = MaskedSampleConfig(steps=4, guidance=2.0, temperature=0.9)
    together = draw(net, PLACES, condition, seeds, options)
    assert [len(own) for own in together] == LENGTHS
    for i, places in enumerate(PLACES):
        alone = draw(net, [places], condition.part(i, i + 1), [seeds[i]], options)[0]
        assert torch.equal(alone, together[i])
    assert not torch.equal(together[0], draw(net, PLACES[:1], condition.part(0, 1), [9], options)[0])


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_guidance_of_one_is_none_and_more_moves_away_from_nothing(order):
    net = small(classes=3, order=order)
    condition, seeds = told(net).part(0, 2), [5, 6]

    def drawn(guidance: float, told: Condition = condition) -> torch.Tensor:
        return torch.cat(draw(net, PLACES[:2], told, seeds, MaskedSampleConfig(steps=3, guidance=guidance)))

    plain, nearly, none = drawn(1.0), drawn(1.0 + 1e-6), drawn(0.0)
    assert torch.equal(plain, nearly)
    assert not torch.equal(plain, drawn(8.0))
    if order == "raster":  # in random order guidance grows with what is known, so that 0 is reached at the end alone
        assert torch.equal(none, drawn(1.0, condition.dropped([True, True])))


def test_guidance_of_one_computes_the_net_once(monkeypatch):
    net, calls = small(classes=3), []
    features = net.features
    monkeypatch.setattr(net, "features", lambda *given: calls.append(1) or features(*given))
    for guidance, wanted in ((1.0, 3), (2.0, 6)):
        calls.clear()
        draw(net, PLACES[:1], Condition(torch.tensor([1])), [0], MaskedSampleConfig(steps=3, guidance=guidance))
        assert len(calls) == wanted


def test_steps_are_told():
    done: list[tuple[int, int]] = []
    for order, total in (("random", 3), ("raster", max(LENGTHS))):
        done.clear()
        net = small(order=order)
        draw(net, PLACES, told(net), [0] * 4, MaskedSampleConfig(steps=3), lambda *now: done.append(now))
        assert done == [(i, total) for i in range(1, total + 1)]


@pytest.mark.parametrize("order", ["random", "raster"])
def test_what_cannot_be_drawn(order):
    net = small(order=order)
    with refused("guidance", "3"):
        draw(net, PLACES, told(net), [0] * 4, MaskedSampleConfig(guidance=3.0))
    for wrong in ({"steps": 0}, {"guidance": -1.0}, {"temperature": -0.5}):
        with refused(*wrong):
            MaskedSampleConfig(**wrong)
    with torch.no_grad():
        net.head.outputs[1].bias[0] = torch.nan
    with refused("NaN"):
        draw(net, PLACES, told(net), [0] * 4, MaskedSampleConfig(steps=2))


def test_half_precision_has_the_same_probabilities():
    codes, known = some_codes(LENGTHS[0]), torch.arange(LENGTHS[0]) % 2 == 0
    with torch.no_grad():
        logits = []
        for one in (small(classes=3), small(classes=3).bfloat16()):
            what = one.told(Condition(torch.tensor([1])), 1)
            features = one.features(codes, known, PLACES[0], LENGTHS[:1], what)
            logits.append(torch.cat(one.head(features, codes), 1).float())
    # weights, inputs and some thirty operations in a row are rounded to 2^-9 each
    assert 0 < float((logits[0] - logits[1]).norm() / logits[0].norm()) < 30 * 2**-9
