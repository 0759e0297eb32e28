"""What a flow learns, against a Gaussian and a mixture whose best answers are known in closed form."""

from __future__ import annotations

import pytest
import torch
from flow_parts import PLACES, TEXT, Mixture, packed, rand, small, told
from torch import nn
from torch.testing import assert_close

from atoken import Packed
from atoken.generation.condition import Condition
from atoken.generation.config import ObjectiveConfig
from atoken.generation.flow.objective import (
    FlowBatch,
    FlowObjective,
    draw_times,
    noised,
    shift_of,
    shifted,
    velocity_of,
)
from refusals import refused

GAUSSIAN = Mixture([[0.5, -1.0]], [[0.3, 2.0]], [1.0])


class Knows(nn.Module):
    """A net that knows the best answer."""

    def __init__(self, prediction: str) -> None:
        super().__init__()
        self.prediction = prediction

    def prepare(self, coords, lengths, condition):
        return torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))

    def forward(self, x_t, times, sample, *, after=None):
        data, noise = GAUSSIAN.expected(x_t, times[sample])
        return (noise - data if self.prediction == "v" else data), None


def test_the_best_answers_of_both_predictions_are_one_velocity():
    x_t, t = rand(200, 2), torch.linspace(0.01, 1, 200)
    data, noise = GAUSSIAN.expected(x_t, t)
    # dividing by t makes fp32's rounding of numbers near 1 up to 100 times larger
    assert_close(velocity_of(data, x_t, t, "x"), noise - data, atol=1e-4, rtol=1e-4)
    assert torch.equal(velocity_of(noise - data, x_t, t, "v"), noise - data)


@pytest.mark.parametrize("clamp", [0.05, 0.5])
def test_the_loss_of_the_best_answer_is_the_variance_that_is_left(clamp):
    count = 20_000
    coords = torch.zeros(count, 5, dtype=torch.int32)
    coords[:, 0] = torch.arange(count)
    batch = FlowBatch(Packed(GAUSSIAN.draw(count), coords), Condition(), seed=3)
    losses, times = {}, {}
    for prediction in ("v", "x"):
        config = ObjectiveConfig(prediction, shift=1.0, times="uniform", clamp=clamp, drop=0.0)
        losses[prediction] = float(FlowObjective(Knows(prediction), config)(batch)["velocity"])
        times[prediction] = draw_times(config, torch.ones(count), torch.Generator().manual_seed(3))
    t = times["v"][:, None]
    noise = (1 - t) ** 2 * GAUSSIAN.stds**2 + t**2
    left = GAUSSIAN.stds**2 / noise  # variance of e - x given x_t: sigma^2 / ((1 - t)^2 sigma^2 + t^2)
    scaled = left * (t / t.clamp_min(clamp)) ** 2  # below the clamp x - prediction counts less
    # means of 40,000 squares, whose spread is about their size: within 4 standard deviations
    for prediction, wanted in (("v", left), ("x", scaled)):
        spread = 4 * float((2**0.5 * wanted).pow(2).mean().sqrt()) / (2 * count) ** 0.5
        assert abs(losses[prediction] - float(wanted.mean())) < spread


def test_times_and_noise():
    x, noise = rand(3, 4), rand(3, 4, seed=1)
    assert torch.equal(noised(x, noise, torch.tensor([0.0, 1.0, 0.0]))[:2], torch.stack([x[0], noise[1]]))
    t = torch.linspace(0, 1, 11)
    assert torch.equal(shifted(t, torch.ones(11)), t)
    moved = shifted(t, torch.full((11,), 3.0))
    assert moved[0] == 0
    assert moved[-1] == 1
    assert_close(moved[5], torch.tensor(0.75))  # 3 * 0.5 / (1 + 2 * 0.5)
    back = shifted(moved, torch.full((11,), 1 / 3))
    assert_close(back, t)


def test_the_shift_follows_from_the_numbers_of_each_sample():
    rule = ObjectiveConfig()
    assert_close(shift_of(rule, 48, [256, 1024, 64]), torch.tensor([3.0, 12.0, 1.0]).sqrt())
    assert shift_of(ObjectiveConfig(shift=2.0), 48, [256, 64]).tolist() == [2.0, 2.0]


def test_times_are_drawn_as_the_config_says():
    def draws(**options: object) -> torch.Tensor:
        config = ObjectiveConfig(**options)
        return draw_times(config, torch.ones(20_000), torch.Generator().manual_seed(0))

    logits = torch.logit(draws(time_mean=-0.8, time_std=0.8))
    assert abs(float(logits.mean()) + 0.8) < 0.03  # 5 standard errors
    assert abs(float(logits.std()) - 0.8) < 0.02
    flat = draws(times="uniform")
    assert abs(float(flat.mean()) - 0.5) < 0.01
    assert abs(float(flat.var()) - 1 / 12) < 0.003


def objective(**options: object) -> FlowObjective:
    net = small(classes=3, text_width=TEXT)
    return FlowObjective(net, ObjectiveConfig(**options), features=7)


def test_a_batch_is_determined_by_its_seed():
    learner, batch = objective(drop=0.5), packed(PLACES)
    first, same, other = (learner(FlowBatch(batch, told(learner.net), seed))["velocity"].detach() for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.allclose(first, other)


def test_dropped_conditions_have_no_gradient():
    learner, batch = objective(drop=0.999999), packed(PLACES)
    learner(FlowBatch(batch, told(learner.net), 0))["velocity"].backward()
    label = learner.net.label.grad
    assert not label[:-1].any()
    assert label[-1].any()


def test_terms_and_what_they_weigh():
    learner, batch = objective(cosine=1.0, align=0.5, align_block=2), packed(PLACES)
    features = rand(len(batch.feats), 7)
    terms = learner(FlowBatch(batch, told(learner.net), 0, features))
    assert terms.keys() == learner.weights.keys() == {"velocity", "cosine", "align"}
    assert learner.weights == {"velocity": 1.0, "cosine": 1.0, "align": 0.5}
    sum(terms.values()).backward()
    assert all(p.grad is not None for p in learner.align.parameters())
    with refused("features"):
        learner(FlowBatch(batch, told(learner.net), 0))
    with refused("block 4", "3"):
        objective(align=0.5, align_block=4)


@pytest.mark.parametrize(
    "wrong", [{"prediction": "e"}, {"times": "cosine"}, {"shift": 0.0}, {"clamp": 0.0}, {"drop": 1.0}, {"align": -1.0}]
)
def test_objectives_that_cannot_be(wrong):
    with refused("objective"):
        ObjectiveConfig(**wrong)
