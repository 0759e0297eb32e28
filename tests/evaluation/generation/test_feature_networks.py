"""Features on disk, and how the Inception of torch-fidelity is opened and read, with a small one in its place."""

from __future__ import annotations

import pickle
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from atoken.evaluation.generation.networks import Inception, Network, compute_features, load_features
from atoken.evaluation.generation.pictures import of_arrays
from refusals import refused

RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 256, (4, 4 + number % 2, 3), dtype=np.uint8) for number in range(5)]


class Mean(Network):
    """The mean of each channel."""

    name, weights_hash, what = "mean", "0" * 64, "mean of each channel"

    def __init__(self) -> None:
        self.seen = 0

    def look(self, frames):
        self.seen += len(frames)
        return {"pooled": frames.float().mean((-2, -1))}


class Extractor(nn.Module):
    """Stands for torch-fidelity's: takes 3 channels to 9 by a 1 x 1 convolution where that has one."""

    def __init__(self, name, features_list, feature_extractor_weights_path):
        super().__init__()
        assert features_list == ["2048", "logits_unbiased"]
        self.Mixed_6d = nn.ModuleDict({"branch1x1": nn.Conv2d(3, 9, 1, bias=False)})
        self.load_state_dict(torch.load(feature_extractor_weights_path))

    def forward(self, frames):
        self.Mixed_6d.branch1x1(frames.float())
        return frames.float().mean((-2, -1)), frames.float().amax((-2, -1))


@pytest.fixture
def fidelity(monkeypatch, tmp_path):
    """A module torch_fidelity, and weights that it takes."""
    module = ModuleType("torch_fidelity")
    module.FeatureExtractorInceptionV3 = Extractor
    monkeypatch.setitem(sys.modules, "torch_fidelity", module)
    path = tmp_path / "weights.pth"
    weight = torch.arange(27.0).reshape(9, 3, 1, 1)
    torch.save({"Mixed_6d.branch1x1.weight": weight}, path)
    return path, weight


def test_features_are_computed_once_and_by_shares(tmp_path):
    pictures, network = of_arrays("five", PICTURES), Mean()
    for rank in range(2):
        compute_features(pictures, network, tmp_path, 2, "cpu", share=(rank, 2))
    assert network.seen == 5
    features, digest = load_features(pictures, network, tmp_path, 2)
    wanted = torch.stack([torch.from_numpy(picture).float().mean((0, 1)) for picture in PICTURES])
    torch.testing.assert_close(features["pooled"], wanted)
    compute_features(pictures, network, tmp_path, 2, "cpu")
    assert network.seen == 5
    turned = of_arrays("five", PICTURES[::-1], "turned")
    compute_features(turned, network, tmp_path, 2, "cpu")
    assert load_features(turned, network, tmp_path, 2)[1] == digest
    assert network.seen == 10
    file = sorted(tmp_path.iterdir())[0]
    file.write_bytes(file.read_bytes()[:-3])
    with refused(file.name, "delete"):
        for each in (pictures, turned):
            load_features(each, network, tmp_path, 2)


def test_spatial_features_are_seven_channels_with_the_channels_last(fidelity):
    path, weight = fidelity
    network = Inception(path, "cpu")
    frames = torch.from_numpy(np.stack(PICTURES[::2])).permute(0, 3, 1, 2)
    for _ in range(2):  # nothing is left of the first call
        seen = network.look(frames)
        spatial = torch.einsum("kc,bchw->bhwk", weight[:7, :, 0, 0], frames.float())
        torch.testing.assert_close(seen["spatial"], spatial.reshape(3, -1))
        assert (seen["pooled"].shape, seen["logits"].shape) == ((3, 3), (3, 3))
    assert len(network.describe()["sha256"]) == 64


def test_weights_that_are_none(fidelity, tmp_path):
    with refused("--inception"):
        Inception(None, "cpu")
    with refused("nowhere.pth", "torch-fidelity", error=FileNotFoundError):
        Inception(tmp_path / "nowhere.pth", "cpu")
    path = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    with refused("other.pth", "--inception"):
        Inception(path, "cpu")
    path.write_bytes(pickle.dumps(print))
    with refused("other.pth"):
        Inception(path, "cpu")


def test_without_torch_fidelity_it_says_what_brings_it(fidelity, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with refused("atoken[fid]"):
        Inception(fidelity[0], "cpu")
