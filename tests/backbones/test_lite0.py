"""EfficientNet-Lite against values recorded from efficientnet-lite-pytorch 0.1 with the same weights."""

from __future__ import annotations

import pytest
import torch

from atoken.backbones import lite0 as module
from atoken.backbones.efficientnet import EfficientNetLite, _strided_depthwise, round_to_8
from atoken.backbones.lite0 import lite0, lite2
from atoken.weights.files import read_state_dict
from refusals import refused

GOLDEN = {
    "lite0": (224, [1.24437, 3.53005, -0.16779, -1.72732, -2.32492], 51.05866, 176.01888, 1768.2103),
    "lite2": (260, [-0.31241, 2.14104, -0.26978, -1.18676, -1.40226], 46.56708, 230.77067, 1845.4755),
}
"""Side, first five logits, and the norms of logits, head and stem."""


def waves(size: int) -> torch.Tensor:
    """Smooth colours that need no random numbers: [1, 3, size, size] in [-1, 1]."""
    y, x = torch.meshgrid(torch.linspace(0, 6, size), torch.linspace(0, 9, size), indexing="ij")
    return torch.stack([torch.sin(x + y), torch.cos(2 * x - y), torch.sin(3 * y)])[None]


@pytest.fixture(scope="module")
def network() -> EfficientNetLite:
    return lite0()


@pytest.mark.slow
@pytest.mark.parametrize("load", [lite0, lite2])
def test_agrees_with_the_published_code(load):
    size, first, logit_norm, head_norm, stem_norm = GOLDEN[load.__name__]
    network = load()
    assert network.size == size
    logits = network.logits(waves(size))[0]
    stem, head = network.features(waves(size), ("stem", "head"))
    torch.testing.assert_close(logits[:5], torch.tensor(first), atol=1e-4, rtol=1e-4)
    norms = torch.stack([logits.norm(), head.norm(), stem.norm()])
    torch.testing.assert_close(norms, torch.tensor([logit_norm, head_norm, stem_norm]), atol=0, rtol=1e-4)


def test_the_weights_are_named_by_the_hash_that_is_in_their_file_name(network):
    assert network.weights_hash.startswith("57934424")
    assert network.name == "efficientnet-lite0"


def test_layers_are_named_and_sized(network):
    maps = dict(zip(network.layers, network.features(waves(128)), strict=True))
    assert {layer: tuple(x.shape[1:]) for layer, x in maps.items()} == {
        "stem": (32, 64, 64),
        "stage1": (16, 64, 64),
        "stage2": (24, 32, 32),
        "stage3": (40, 16, 16),
        "stage4": (80, 8, 8),
        "stage5": (112, 8, 8),
        "stage6": (192, 4, 4),
        "stage7": (320, 4, 4),
        "head": (1280, 4, 4),
    }
    some = network.features(waves(128), ("stage3", "stage1"))
    assert torch.equal(some[0], maps["stage3"])
    assert torch.equal(some[1], maps["stage1"])
    with refused("stage9"):
        network.features(waves(128), ("stage9",))


def test_any_size_down_to_one_pixel(network):
    for height, width in ((1, 1), (33, 17), (50, 75)):
        head = network.features(torch.zeros(1, 3, height, width), ("head",))[0]
        assert head.shape[-2:] == (-(-height // 32), -(-width // 32))


@pytest.mark.slow
def test_bf16_names_the_same_class_and_lets_gradients_through(network):
    fast = lite0(dtype=torch.bfloat16)
    x = waves(128).requires_grad_()
    logits = fast.logits(x)
    assert logits.dtype == torch.bfloat16
    assert logits.argmax() == network.logits(waves(128)).argmax()
    fast.features(x, ("stem",))[0].float().square().mean().backward()
    y = waves(128).requires_grad_()
    network.features(y, ("stem",))[0].square().mean().backward()
    assert x.grad is not None
    assert torch.nn.functional.cosine_similarity(x.grad.flatten(), y.grad.flatten(), dim=0) > 0.9


def test_it_stays_frozen(network):
    network.train()
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_state_dict_of_another_architecture_is_refused():
    state = read_state_dict(module._packaged_file("lite0"))
    with refused("block 3"):
        EfficientNetLite("x", state, "", width=1.1, depth=1.0, size=224)
    del state["_blocks.2._bn1.running_var"]
    with refused("_blocks.2._bn1.running_var"):
        EfficientNetLite("x", state, "", width=1.0, depth=1.0, size=224)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with refused("pip install 'atoken[eval]'"):
        lite0()


def test_channels_are_rounded_as_efficientnet_does():
    assert [round_to_8(c) for c in (17.6, 26.4, 44.0, 88.0, 123.2, 211.2)] == [16, 24, 48, 88, 120, 208]


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "height", "width"), [(3, 9, 12), (5, 8, 13)])
def test_the_gradient_of_a_strided_depthwise_convolution(kernel, height, width):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, height, width, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(3, 1, kernel, kernel, dtype=torch.float64, generator=generator)
    bias = torch.zeros(3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: _strided_depthwise(x, weight, bias, 2, 3), x)


@pytest.mark.slow
def test_a_network_may_return_some_layers():
    network = lite0(("stage3", "stem"))
    assert [x.shape[1] for x in network.features(waves(64))] == [40, 32]
    with refused("stage9"):
        lite0(("stage9",))
