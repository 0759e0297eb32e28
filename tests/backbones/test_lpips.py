"""LPIPS and its trunks against values recorded from the published implementation (lpips 0.1.4) on the same weights."""

from __future__ import annotations

import pytest
import torch

from atoken.backbones.alex import alexnet
from atoken.backbones.lpips import PerceptualDistance, lpips
from atoken.backbones.network import FrozenNetwork
from atoken.backbones.vgg import vgg16
from refusals import refused


class Shift(FrozenNetwork):
    """Two layers that are the picture itself and twice the picture."""

    layers = ("one", "two")

    def __init__(self):
        super().__init__("shift", "0" * 64, (0.5,) * 3, (0.5,) * 3)

    def features(self, images):
        return [self.normalise(images), 2 * self.normalise(images)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("load", "expected"),
    [(vgg16, [0.029749036, 0.029222681]), (alexnet, [0.022456694, 0.022913914])],
    ids=["vgg16", "alexnet"],
)
def test_agrees_with_the_published_implementation(load, expected, trunk_file, pair):
    distance = lpips(load(trunk_file(load.__name__)))
    torch.testing.assert_close(distance(*pair), torch.tensor(expected), rtol=1e-4, atol=1e-7)
    assert distance.name == f"lpips-{load.__name__}"


def test_without_heads_it_is_the_mean_of_two_minus_two_cosines():
    distance = PerceptualDistance(Shift())
    x = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    y = torch.tensor([0.0, -1.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    torch.testing.assert_close(distance(x, x), torch.zeros(1), atol=1e-6, rtol=0)
    torch.testing.assert_close(distance(x, y), torch.tensor([2.0]))
    torch.testing.assert_close(distance(x, -x), torch.tensor([4.0]))
    half = torch.cat([x[..., :1], y[..., 1:]], -1)
    torch.testing.assert_close(distance(x, half), torch.tensor([1.0]))


def test_heads_weigh_channels():
    heads = [torch.tensor([1.0, 0.0, 3.0]), torch.tensor([0.0, 0.5, 0.0])]
    x = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    y = torch.tensor([0.0, 0.0, 2.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(PerceptualDistance(Shift(), heads)(x, y), torch.tensor([4.0]))
    with refused("2 layers", "1 heads"):
        PerceptualDistance(Shift(), heads[:1])


def test_gradients_reach_the_picture_and_not_the_weights(trunk_file, pair):
    distance = lpips(alexnet(trunk_file("alexnet")))
    a = pair[0].clone().requires_grad_()
    distance(a, pair[1]).sum().backward()
    assert a.grad is not None
    assert (a.grad.abs().sum((1, 2, 3)) > 0).all()
    assert not any(parameter.requires_grad for parameter in distance.parameters())


def test_pictures_with_constant_areas_have_finite_gradients():
    x = torch.zeros(1, 3, 4, 4, requires_grad=True)
    PerceptualDistance(Shift())(x, torch.zeros(1, 3, 4, 4)).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_what_is_missing_or_wrong_is_said(trunk_file, tmp_path):
    with refused(tmp_path / "none.pth", "vgg16", "download.pytorch.org", error=FileNotFoundError):
        vgg16(tmp_path / "none.pth")
    with refused("features.2.weight"):
        vgg16(trunk_file("alexnet"))
    with refused("LPIPS", "shift"):
        lpips(Shift())
    with refused("[B, 3, H, W]"):
        Shift().features(torch.zeros(3, 8, 8))
