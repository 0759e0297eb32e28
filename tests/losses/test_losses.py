"""Every loss against hand values, and its gradient against finite differences."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck
from torch.testing import assert_close

from atoken.losses.distillation import distillation, similarity
from atoken.losses.feature import feature_distance
from atoken.losses.gan import Discriminator, discriminator_loss, generator_loss
from atoken.losses.gram import gram, gram_matrix
from atoken.losses.kl import kl
from atoken.losses.l1 import l1
from atoken.losses.log_mse import log_mse
from atoken.losses.sigmoid import SigmoidLoss
from atoken.losses.total import Weights, weighted
from atoken.nn.posterior import Posterior
from refusals import refused


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def wants(x: Tensor) -> Tensor:
    return x.clone().requires_grad_()


def test_l1():
    assert_close(l1(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, -1.0]])), torch.tensor(1.25))
    assert gradcheck(lambda x: l1(x, rand(3, 4, seed=1)), wants(rand(3, 4)))


def test_log_mse_weighs_samples_and_not_tokens():
    prediction = torch.zeros(3, 2)
    target = torch.tensor([[0.1, 0.1], [0.1, 0.1], [1.0, 1.0]])
    expected = (math.log(0.01) + math.log(1.0)) / 2
    lengths = [2, 1]
    assert_close(log_mse(prediction, target, lengths), torch.tensor(expected))
    assert_close(log_mse(prediction, target, [1, 1, 1]), torch.tensor((2 * math.log(0.01) + math.log(1.0)) / 3))
    assert_close(log_mse(target, target, lengths), torch.tensor(math.log(1e-6)))
    assert gradcheck(lambda x: log_mse(x, rand(3, 2, seed=1), lengths), wants(rand(3, 2)))


def test_kl_is_summed_over_channels_and_averaged_over_tokens():
    moments = torch.tensor([[1.0, 0.0, 0.0, math.log(4.0)], [0.0, 0.0, 0.0, 0.0]])
    assert_close(kl(Posterior(moments)), torch.tensor((0.5 * 1 + 0.5 * (4 - 1 - math.log(4.0))) / 2))
    assert gradcheck(lambda x: kl(Posterior(x)), wants(rand(3, 8)))


def test_gram_against_hand_values():
    # One place with channels (3, 4) and one with (0, 2): unit vectors (.6, .8) and (0, 1).
    features = torch.tensor([[3.0, 0.0], [4.0, 2.0]]).view(1, 2, 1, 2)
    expected = torch.tensor([[[0.18, 0.24], [0.24, 0.82]]])
    assert_close(gram_matrix(features), expected)
    other = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)  # another size; G = [[1, 0], [0, 0]]
    squares = (1 - 0.18) ** 2 + 2 * 0.24**2 + 0.82**2
    assert_close(gram([features], [other]), torch.tensor(squares / 2))
    assert_close(gram([features, other], [other, other]), torch.tensor(squares / 4))


def test_gram_ignores_where_a_texture_is_and_how_strong_the_layer():
    x = rand(2, 5, 4, 4)
    moved = x.flatten(2)[..., torch.randperm(16, generator=torch.Generator().manual_seed(0))].view_as(x)
    assert_close(gram([x], [7 * moved]), torch.tensor(0.0, dtype=torch.float64), atol=1e-12, rtol=0)
    assert gradcheck(lambda a: gram([a], [rand(2, 5, 2, 2, seed=1)]), wants(rand(2, 5, 2, 2)))


def test_feature_distance():
    a = torch.tensor([[1.0, 0.0], [0.0, 2.0]]).view(1, 2, 1, 2)
    b = torch.tensor([[3.0, 0.0], [0.0, -1.0]]).view(1, 2, 1, 2)
    assert_close(feature_distance(a, b), torch.tensor((0 + 2) / 2.0))
    assert gradcheck(lambda x: feature_distance(x, rand(2, 3, 2, 2, seed=1)), wants(rand(2, 3, 2, 2)))


def test_distillation_against_hand_values():
    teacher = torch.tensor([[2 * math.log(3.0), 0.0]])  # over 2: probabilities 3/4, 1/4
    student = torch.tensor([[0.0, 0.0]])
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert_close(distillation(teacher, student), torch.tensor(expected))
    assert_close(distillation(teacher, teacher + 5), torch.tensor(0.0), atol=1e-7, rtol=0)
    assert distillation(teacher, student, temperature=1.0) > distillation(teacher, student)


def test_distillation_over_both_axes():
    teacher, student = rand(3, 4), rand(3, 4, seed=1)
    both = (distillation(teacher, student) + distillation(teacher.t(), student.t())) / 2
    assert_close(distillation(teacher, student, axis="both"), both)
    for axis in ("texts", "both"):
        assert gradcheck(lambda x, axis=axis: distillation(teacher, x, axis=axis), wants(student))


def test_the_teacher_gets_no_gradient():
    teacher, student = wants(rand(2, 3)), wants(rand(2, 3, seed=1))
    distillation(teacher, student).backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_distillation_refuses_what_does_not_fit():
    with refused("[2, 3]", "[3, 2]"):
        distillation(rand(2, 3), rand(3, 2))
    with refused("'images'", "texts", "both"):
        distillation(rand(2, 3), rand(2, 3), axis="images")


def test_similarity_is_scaled_cosines():
    images = torch.eye(2)
    assert_close(similarity(images, images, math.log(100.0)), 100 * torch.eye(2))


def test_sigmoid_against_hand_values():
    loss = SigmoidLoss(log_scale=math.log(4.0), bias=-1.0)
    pairs = torch.eye(2)
    softplus = lambda z: math.log1p(math.exp(z))  # noqa: E731
    assert_close(loss(pairs, pairs).detach(), torch.tensor(softplus(-3.0) + softplus(-1.0)))
    assert_close(loss(pairs, pairs, torch.tensor([5, 5])).detach(), torch.tensor(softplus(-3.0) + softplus(1.0)))


def test_sigmoid_learns_scale_and_bias():
    loss = SigmoidLoss().double()
    images, texts = rand(3, 4), rand(3, 4, seed=1)
    assert gradcheck(loss, (wants(images), wants(texts)))
    loss(images, texts).backward()
    assert loss.log_scale.grad is not None
    assert loss.bias.grad is not None
    assert loss.log_scale.item() == pytest.approx(math.log(10))
    with refused("[3, 4]", "[2, 4]"):
        loss(images, texts[:2])


def test_hinge_losses():
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-2.0, 0.5])
    assert_close(discriminator_loss(real, fake), torch.tensor((0.5 + 0.75) / 2))
    assert_close(generator_loss(fake), torch.tensor(0.75))
    assert gradcheck(lambda x: discriminator_loss(x, rand(4, seed=1)), wants(rand(4)))


def test_the_discriminator_learns_to_tell_noise_from_smoothness():
    torch.manual_seed(0)
    net = Discriminator(width=8)
    assert net(torch.zeros(2, 3, 64, 48)).shape == (2, 1, 6, 4)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(25):
        real, fake = torch.rand(4, 3, 1, 1).expand(-1, -1, 32, 32), torch.rand(4, 3, 32, 32)
        optimizer.zero_grad()
        loss = discriminator_loss(net(real), net(fake))
        loss.backward()
        optimizer.step()
    assert loss < 0.3


def test_the_total_has_the_papers_weights():
    terms = {name: torch.tensor(1.0) for name in ("l1", "lpips", "gram", "clip", "semantic", "kl", "log_mse", "gan")}
    each = {name: float(value) for name, value in weighted(terms, Weights()).items()}
    assert each == pytest.approx(
        {"l1": 0.2, "lpips": 2.0, "gram": 200.0, "clip": 0.2, "semantic": 1.0, "kl": 1e-8, "log_mse": 0.0, "gan": 0.0}
    )
    assert weighted({"l1": torch.tensor(3.0)}, Weights(reconstruction=1.0))["l1"] == 3.0
    with refused("'l2'"):
        weighted({"l2": torch.tensor(1.0)}, Weights())


@pytest.mark.parametrize("log_scale", [3.4, 4.8438])
def test_text_losses_inside_autocast_are_those_outside(log_scale):
    """bf16 products made gradients of small losses wrong by tens of percent."""
    torch.manual_seed(0)
    texts = F.normalize(torch.randn(64, 384), dim=-1)
    teacher = similarity(F.normalize(texts + 0.02 * torch.randn(64, 384), dim=-1), texts, log_scale)
    losses = {
        "distillation": lambda images: distillation(teacher, similarity(images, texts, log_scale)),
        "sigmoid": lambda images: SigmoidLoss(log_scale, -log_scale)(images, texts),
    }
    for name, loss in losses.items():
        found = []
        for autocast in (False, True):
            images = F.normalize(
                texts + 0.01 * torch.randn(64, 384, generator=torch.Generator().manual_seed(1)), dim=-1
            )
            images.requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                value = loss(images)
            assert value.dtype == torch.float32
            value.backward()
            found.append((value.detach(), images.grad))
        (value, gradient), (cast, cast_gradient) = found
        assert_close(cast, value, msg=name)
        assert_close(cast_gradient, gradient, msg=name)


def test_log_mse_leaves_padding_out():
    target, valid = torch.zeros(3, 4), torch.tensor([[True, True, False, False]] * 2 + [[True] * 4])
    prediction = torch.tensor([[0.1, 0.1, 9.0, 9.0], [0.1, 0.1, 9.0, 9.0], [0.2, 0.2, 0.2, 0.2]])
    expected = torch.tensor((math.log(0.01) + math.log(0.04)) / 2)
    assert_close(log_mse(prediction, target, [2, 1], valid), expected)
