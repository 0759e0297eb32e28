"""The diffusion transformer: its size, and that samples of any shape in one batch are what they are alone."""

from __future__ import annotations

import pytest
import torch
from flow_parts import IMAGE, PLACES, TEXT, packed, small, told
from torch.testing import assert_close

from atoken.generation.condition import Condition
from atoken.generation.config import SIZES, DiTConfig, dit_config
from atoken.generation.flow.net import DiT
from refusals import refused

TIMES = torch.tensor([0.2, 0.9, 0.5, 1.0])
INPUTS = [
    {},
    {"classes": 3},
    {"text_width": TEXT},
    {"image_width": IMAGE},
    {"classes": 3, "text_width": TEXT, "image_width": IMAGE},
]
ROUNDING = {"atol": 1e-4, "rtol": 1e-4}
"""Sums of some dozens of fp32 numbers in another order (2^-24 each), through three blocks."""


def parameters(config: DiTConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in DiT(config).parameters())


def test_xl_has_the_parameters_of_lightningdit():
    # 675.26 M by the log of its training (hustvl/LightningDiT docs/log.txt), which has no QK norm and a learnt place
    assert abs(parameters(dit_config("XL", 32, classes=1000)) / 675.26e6 - 1) < 0.005


def test_nano_fits_into_ten_megabytes_of_int8():
    assert parameters(dit_config("nano", 48, text_width=384)) < 9.8e6


@pytest.mark.parametrize("inputs", INPUTS)
def test_packed_is_each_alone(inputs):
    net, batch = small(**inputs), packed(PLACES)
    condition, lengths = told(net), batch.lengths
    with torch.no_grad():
        prepared = net.prepare(batch.coords[:, 1:], lengths, condition)
        together, middle = net(batch.feats, TIMES, prepared, after=2)
        assert middle.shape == (len(batch.feats), 32)
        start = 0
        for i, length in enumerate(lengths):
            here = slice(start, start + length)
            alone = net.prepare(PLACES[i], [length], condition.part(i, i + 1))
            out, hidden = net(batch.feats[here], TIMES[i : i + 1], alone, after=2)
            assert_close(out, together[here], **ROUNDING)
            assert_close(hidden, middle[here], **ROUNDING)
            start += length


@pytest.mark.parametrize("inputs", INPUTS[1:])
def test_what_a_sample_is_told_changes_it_and_it_alone(inputs):
    net, batch = small(**inputs), packed(PLACES)
    condition, lengths = told(net), batch.lengths
    other = condition.dropped([True, False, False, False])

    def out(what: Condition) -> tuple[torch.Tensor, ...]:
        prepared = net.prepare(batch.coords[:, 1:], lengths, what)
        return net(batch.feats, TIMES, prepared)[0].detach().split(lengths)

    before, after = out(condition), out(other)
    assert not torch.allclose(before[0], after[0], atol=1e-3)
    for i in (1, 2, 3):
        assert_close(before[i], after[i], **ROUNDING)


@pytest.mark.parametrize("axis", range(4))
def test_every_axis_is_seen_at_its_place_and_relative_to_others(axis):
    net, batch = small(), packed(PLACES[:1])
    places = PLACES[0].clone()
    moved = places.clone()
    moved[:, axis] += 3
    stretched = places.clone()
    stretched[-1, axis] += 3
    outs = [
        net(batch.feats, TIMES[:1], net.prepare(item, [len(places)], Condition()))[0].detach()
        for item in (places, moved, stretched)
    ]
    assert not torch.allclose(outs[0], outs[1], atol=1e-4)
    assert not torch.allclose(outs[0][0], outs[2][0], atol=1e-4)  # a token whose own place is as it was


def test_a_new_net_predicts_nothing_and_learns_everywhere():
    net = DiT(DiTConfig(3, 32, 2, 48, 5, classes=3, text_width=TEXT, image_width=IMAGE))
    batch = packed(PLACES)
    prepared = net.prepare(batch.coords[:, 1:], batch.lengths, told(net))
    assert not net(batch.feats, TIMES, prepared)[0].any()
    trained = small(classes=3, text_width=TEXT, image_width=IMAGE).train()
    prepared = trained.prepare(batch.coords[:, 1:], batch.lengths, told(trained))
    trained(batch.feats, TIMES, prepared)[0].square().sum().backward()
    assert [name for name, p in trained.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_half_precision_draws_the_same():
    net, batch = small(classes=3, text_width=TEXT), packed(PLACES)
    condition = told(net)
    with torch.no_grad():
        wanted = net(batch.feats, TIMES, net.prepare(batch.coords[:, 1:], batch.lengths, condition))[0]
        half = net.bfloat16()
        found = half(batch.feats, TIMES, half.prepare(batch.coords[:, 1:], batch.lengths, condition))[0]
    assert found.dtype == torch.float32
    # weights, inputs and some thirty operations in a row are rounded to 2^-9 each
    assert float((found - wanted).norm() / wanted.norm()) < 30 * 2**-9


def test_conditions_that_do_not_fit():
    net = small(classes=3)
    coords = PLACES[0]
    for condition, names in (
        (Condition(), ("labels",)),
        (Condition(torch.tensor([3])), ("3",)),
        (Condition(torch.tensor([-2])), ("-2",)),
        (Condition(torch.tensor([1, 1])), ("2", "1")),
        (Condition(torch.tensor([1]), text=(torch.zeros(2, TEXT), [2])), ("text",)),
    ):
        with refused(*names):
            net.prepare(coords, [len(coords)], condition)


def test_configs_that_do_not_fit():
    with refused("M", *SIZES):
        dit_config("M", 48)
    for wrong in ({"heads": 3}, {"width": 36, "heads": 9}, {"depth": 0}, {"depth": 10**9}, {"latent_channels": -1}):
        with refused(*wrong):
            DiTConfig(**{"depth": 2, "width": 32, "heads": 2, "mlp_width": 8, "latent_channels": 4} | wrong)
