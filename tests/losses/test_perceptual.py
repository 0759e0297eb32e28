"""The terms that look through frozen networks."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from atoken.backbones.lite0 import lite0
from atoken.backbones.lpips import PerceptualDistance
from atoken.backbones.network import FrozenNetwork
from atoken.losses.feature import feature_distance
from atoken.losses.gram import gram
from atoken.losses.perceptual import LITE_LAYERS, PerceptualTerms, lite_terms, to_squares
from atoken.media.patchify import image_to_patches
from atoken.nn.packed import Packed, dense_coords
from refusals import refused


class Counting(FrozenNetwork):
    """The picture, and its average over the colours and one more channel; counts how often it runs."""

    layers = ("colour", "grey")

    def __init__(self, name: str = "counting"):
        super().__init__(name, "0" * 64, (0.5,) * 3, (0.5,) * 3)
        self.runs = 0

    def features(self, images):
        self.runs += 1
        x = self.normalise(images)
        return [x, torch.stack([x.mean(1), x[:, 0].square()], 1)]


def pictures(*sizes: tuple[int, int]) -> tuple[list[torch.Tensor], Packed]:
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, *size, generator=generator) * 2 - 1 for size in sizes]
    return images, Packed.cat([image_to_patches(image)[:2] for image in images])


def test_pictures_come_back_from_a_packed_batch():
    images, packed = pictures((32, 32), (32, 32))
    assert_close(to_squares(packed.feats, packed, 32), torch.stack(images))


def test_mixed_sizes_become_squares_in_order():
    images, packed = pictures((48, 80), (32, 32), (16, 64))
    wide = torch.cat([packed.feats, torch.zeros(len(packed.feats), 2304)], 1)  # all four frames
    squares = to_squares(wide, packed, 32)
    assert squares.shape == (3, 3, 32, 32)
    assert_close(squares[1], images[1])
    assert_close(squares.mean((2, 3)), torch.stack([image.mean((1, 2)) for image in images]), atol=0.02, rtol=0)
    assert_close(to_squares(packed.feats, packed, 32, limit=2), squares[:2])


def test_neighbours_of_one_size_become_the_squares_that_they_are_alone():
    images, packed = pictures((48, 80), (48, 80), (32, 32), (48, 80))
    alone = [Packed.cat([image_to_patches(image)[:2]]) for image in images]
    assert_close(to_squares(packed.feats, packed, 32), torch.cat([to_squares(one.feats, one, 32) for one in alone]))


def test_what_is_no_picture_is_refused():
    clip = Packed.cat([(torch.zeros(8, 768), dense_coords((2, 2, 2, 1)))])
    with refused("pictures"):
        to_squares(clip.feats, clip, 32)


@pytest.mark.parametrize("wanted", [("lpips",), ("gram",), ("clip",), ("lpips", "clip")])
def test_only_wanted_terms_are_computed_and_only_by_the_networks_that_they_need(wanted):
    networks = {"lpips": Counting("one"), "gram": Counting("two"), "clip": Counting("three")}
    parts = {"texture": networks["gram"], "tower": networks["clip"]}
    a, b = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    whole = PerceptualTerms(PerceptualDistance(networks["lpips"]), **parts)(a, b)
    for network in networks.values():
        network.runs = 0
    some = PerceptualTerms(PerceptualDistance(networks["lpips"]), **parts, wanted=wanted)(a, b)
    assert {name: network.runs for name, network in networks.items()} == {
        name: 2 if name in wanted else 0 for name in networks
    }
    assert some == {name: whole[name] for name in wanted}


def test_every_term_is_the_loss_of_its_name_and_every_network_runs_once():
    network = Counting()
    terms = PerceptualTerms(PerceptualDistance(network), gram_layers=("grey",), tower=network)
    a, b = (torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    values = terms(a, b)
    assert network.runs == 2
    x, y = network.features(a), network.features(b)
    assert_close(values["lpips"], PerceptualDistance(network)(a, b).mean())
    assert_close(values["gram"], gram(x[1:], y[1:]))
    assert_close(values["clip"], feature_distance(x[1], y[1]))


def test_networks_may_differ_and_the_tower_may_be_absent():
    network, texture = Counting("one"), Counting("two")
    terms = PerceptualTerms(PerceptualDistance(network), texture=texture)
    assert set(terms(torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 4))) == {"lpips", "gram"}
    assert (network.runs, texture.runs) == (2, 2)
    with refused("'red'"):
        PerceptualTerms(PerceptualDistance(network), gram_layers=("red",))


def test_with_lite0_a_blurred_picture_is_far_and_the_same_one_is_at_zero():
    terms = lite_terms(lite0(LITE_LAYERS), size=64)
    _, packed = pictures((64, 64), (64, 64))
    target = to_squares(packed.feats, packed, terms.size)
    blurred = torch.nn.functional.avg_pool2d(target, 5, 1, 2)
    same, far = terms(target, target), terms(blurred, target)
    assert set(same) == {"lpips", "gram", "clip"}
    for name, value in same.items():
        assert abs(float(value)) < 1e-5, name
        assert float(far[name]) > 1e-4, name


def test_gradients_reach_the_patches_and_only_the_prediction():
    terms = lite_terms(lite0(LITE_LAYERS, dtype=torch.bfloat16), size=64)
    _, packed = pictures((64, 64), (32, 96))
    target = packed.feats.clone().requires_grad_()
    prediction = (packed.feats * 0.5).requires_grad_()
    values = terms(to_squares(prediction, packed, 64), to_squares(target, packed, 64))
    sum(values.values()).backward()
    assert target.grad is None
    assert (prediction.grad.abs().sum(1) > 0).all()
