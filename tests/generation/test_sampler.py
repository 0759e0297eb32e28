"""Drawing, with velocities that are known in closed form."""

from __future__ import annotations

import pytest
import torch
from flow_parts import PLACES, TEXT, Mixture, rand, small, told
from torch.testing import assert_close

from atoken.generation.condition import Condition
from atoken.generation.config import SampleConfig
from atoken.generation.flow.sampler import draw, guided, integrate, noise_of
from refusals import refused

TWO = Mixture([[2.0, 0.0], [-2.0, 1.0]], [[0.3, 0.2], [0.1, 0.4]], [0.3, 0.7])
COUNT = 4000
ONE = torch.ones(1)


def drawn(config: SampleConfig, shift: float = 1.0) -> torch.Tensor:
    sample = torch.zeros(COUNT, dtype=torch.long)
    noise = noise_of([5], [COUNT], 2)
    return integrate(lambda x, t: TWO.velocity(x, t[sample]), noise, sample, torch.tensor([shift]), config)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "steps", "shift"), [("euler", 200, 1.0), ("heun", 40, 1.0), ("heun", 40, 2.0), ("heun", 40, 0.5)]
)
def test_a_mixture_in_the_plane_is_drawn_as_it_is(method, steps, shift):
    points = drawn(SampleConfig(steps, method=method), shift)
    left = points[:, 0] < 0
    # 4,000 points: a share within 4 standard errors, means and deviations within 4 and what finite steps add
    assert abs(float(left.float().mean()) - 0.7) < 4 * (0.21 / COUNT) ** 0.5
    for part, mean, std in zip((points[~left], points[left]), TWO.means, TWO.stds, strict=True):
        assert ((part.mean(0) - mean).abs() < 4 * std / len(part) ** 0.5 + 0.02).all()
        assert ((part.std(0) / std - 1).abs() < 4 / (2 * len(part)) ** 0.5 + 0.1).all()


@pytest.mark.slow
def test_heun_comes_closer_than_euler_for_the_same_work():
    exact = drawn(SampleConfig(200, method="heun"))
    errors = {
        method: (drawn(SampleConfig(steps, method=method)) - exact).abs().median()
        for method, steps in (("euler", 80), ("heun", 40))
    }
    assert errors["heun"] < 0.5 * errors["euler"]


def test_the_last_step_ends_at_the_data_that_the_net_predicts():
    goal = rand(6, 3)
    t_of = torch.zeros(6, dtype=torch.long)
    for method in ("euler", "heun"):
        x = integrate(
            lambda x, t: (x - goal) / t[t_of, None], rand(6, 3, seed=1), t_of, ONE, SampleConfig(7, method=method)
        )
        assert_close(x, goal, atol=1e-5, rtol=1e-5)


def test_guidance_is_a_straight_line_inside_its_interval():
    sample = torch.tensor([0, 0, 1])
    x, t = rand(3, 2), torch.tensor([0.5, 0.9])
    calls = []

    def nothing(x, t):
        calls.append(t)
        return -x

    def velocity(**options):
        return guided(lambda x, t: x, nothing, sample, SampleConfig(**options))(x, t)

    assert torch.equal(velocity(guidance=1.0), x)
    assert calls == []
    assert_close(velocity(guidance=3.0), 5 * x)  # x + 2 (x - -x)
    assert_close(velocity(guidance=0.0), -x)
    inside = velocity(guidance=3.0, interval=(0.0, 0.5))
    assert_close(inside, torch.cat([5 * x[:2], x[2:]]))
    calls.clear()
    assert torch.equal(velocity(guidance=3.0, interval=(0.95, 1.0)), x)
    assert calls == []


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_a_sample_depends_on_its_seed_and_not_on_its_batch(guidance):
    net = small(classes=3, text_width=TEXT)
    condition, seeds, shift = told(net), [7, 8, 9, 10], torch.tensor([1.0, 2.0, 0.5, 1.5])
    config = SampleConfig(6, guidance)
    together = draw(net, PLACES, condition, seeds, shift, "v", config)
    for i in range(4):
        alone = draw(net, PLACES[i : i + 1], condition.part(i, i + 1), seeds[i : i + 1], shift[i : i + 1], "v", config)
        # six steps of a net that differs by its sums' order, 1e-5 each, which guidance multiplies
        assert_close(alone[0], together[i], atol=1e-3, rtol=1e-3)
    assert not torch.allclose(
        draw(net, PLACES[:1], condition.part(0, 1), [11], shift[:1], "v", config)[0], together[0], atol=0.1
    )


def test_noise_of_a_sample_is_its_own_to_the_last_bit():
    both = noise_of([3, 4], [5, 2], 6)
    assert torch.equal(both[:5], noise_of([3], [5], 6))
    assert torch.equal(both[5:], noise_of([4], [2], 6))
    assert not torch.equal(both[:2], both[5:])


def test_without_guidance_the_net_is_computed_once_a_step(monkeypatch):
    net = small(classes=3)
    calls = []
    net.register_forward_hook(lambda *_: calls.append(1))
    for config, wanted in (
        (SampleConfig(5), 5),
        (SampleConfig(5, 2.0), 10),
        (SampleConfig(5, method="heun"), 9),
        (SampleConfig(5, 2.0, interval=(0.0, 0.0)), 5),
    ):
        calls.clear()
        draw(net, PLACES[:1], Condition(torch.tensor([1])), [0], ONE, "v", config)
        assert len(calls) == wanted


def test_nan_is_an_error_and_progress_is_told():
    net = small(classes=3)
    steps = []
    label = Condition(torch.tensor([1]))
    draw(net, PLACES[:1], label, [0], ONE, "x", SampleConfig(3), lambda *done: steps.append(done))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    with refused("deviations", "guidance 1e+30"):
        draw(net, PLACES[:1], label, [0], ONE, "v", SampleConfig(3, 1e30))
    with torch.no_grad():
        net.final.bias[0] = torch.nan
    with refused("nan", "guidance 2"):
        draw(net, PLACES[:1], label, [0], ONE, "v", SampleConfig(3, 2.0))


def test_a_net_that_is_told_nothing_cannot_be_guided():
    with refused("guidance", "2"):
        draw(small(), PLACES[:1], Condition(), [0], ONE, "v", SampleConfig(3, 2.0))


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"guidance": -1.0}, {"interval": (0.5, 0.2)}, {"interval": (0.0, 2.0)}, {"method": "rk4"}],
)
def test_ways_to_draw_that_cannot_be(wrong):
    with refused(*wrong):
        SampleConfig(**wrong)
