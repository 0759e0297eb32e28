"""What is known of a model's latents, and that it never belongs to other weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import atoken
from atoken import PRESETS, AToken
from atoken.tokenizer.latent_stats import ChannelStats
from atoken.weights.config import CONFIG
from refusals import refused


@pytest.fixture
def model():
    torch.manual_seed(0)
    return AToken(PRESETS["tiny"]).eval()


def stats_of(model, channels=48, **changes):
    latents = torch.randn(600, channels, generator=torch.Generator().manual_seed(0)) * 5 + 3
    return replace(ChannelStats.of(latents.split(100), data="noise", weights=model.weights_hash), **changes)


def test_mean_and_deviation_are_those_of_all_batches_together(model):
    latents = torch.randn(600, 48, generator=torch.Generator().manual_seed(0)) * 5 + 3
    stats = stats_of(model)
    assert stats.tokens == 600
    assert stats.mean == pytest.approx(latents.double().mean(0).tolist(), rel=1e-5)  # six digits
    assert stats.std == pytest.approx(latents.double().std(0).tolist(), rel=1e-5)


def test_they_are_kept_beside_the_weights(model, tmp_path):
    assert model.latent_stats is None
    model.save_pretrained(tmp_path / "without")
    assert "latent_stats" not in json.loads((tmp_path / "without" / CONFIG).read_text())
    assert atoken.load(tmp_path / "without").latent_stats is None
    model.latent_stats = stats = stats_of(model)
    model.save_pretrained(tmp_path / "with")
    loaded = atoken.load(tmp_path / "with", dtype=torch.bfloat16)
    assert loaded.latent_stats == stats
    assert loaded.config == model.config
    assert loaded.weights_hash == model.weights_hash


def test_those_of_other_weights_are_dropped(model, tmp_path):
    model.latent_stats = stats_of(model)
    model.save_pretrained(tmp_path / "a")
    with torch.no_grad():
        model.proj.weight.mul_(2)
    assert model.latent_stats is None
    model.save_pretrained(tmp_path / "b")
    assert "latent_stats" not in json.loads((tmp_path / "b" / CONFIG).read_text())
    (tmp_path / "b" / CONFIG).write_bytes((tmp_path / "a" / CONFIG).read_bytes())
    assert atoken.load(tmp_path / "b").latent_stats is None


def test_those_of_another_model_are_refused(model):
    with refused("47", "48"):
        model.latent_stats = stats_of(model, channels=47)
    with refused("0123456789ab", "tiny"):
        model.latent_stats = stats_of(model, weights="0123456789ab" * 5)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"std": [0.0] * 48}, ("latent_stats", "positive")),
        ({"mean": [0.0] * 47, "std": [1.0] * 47}, ("latent_stats", "47", "48")),
        ({"mean": "0"}, ("latent_stats", "mean")),
        ({"colour": 1}, ("latent_stats", "colour")),
    ],
)
def test_damaged_ones_are_refused_by_name(model, tmp_path, change, named):
    model.latent_stats = stats_of(model)
    model.save_pretrained(tmp_path)
    values = json.loads((tmp_path / CONFIG).read_text())
    values["latent_stats"].update(change)
    (tmp_path / CONFIG).write_text(json.dumps(values))
    with refused(CONFIG, *named):
        atoken.load(tmp_path)


def test_what_does_not_vary_cannot_be_measured(model):
    with refused("no latents"):
        ChannelStats.of([], data="nothing", weights=model.weights_hash)
    with refused("positive"):
        ChannelStats.of([torch.zeros(9, 48)], data="zeros", weights=model.weights_hash)


@pytest.mark.slow
def test_those_of_nano_fit_the_bundled_photographs():
    """Pictures that it never saw: normalised with the statistics, their latents have about mean 0 and deviation 1."""
    model = atoken.load("nano", device="cpu")
    stats = model.latent_stats
    assert stats is not None
    photographs = sorted((Path(atoken.__file__).parent / "assets/photos").glob("*.jpg"))
    latents = torch.cat([tokens.latents for tokens in model.encode(photographs)])
    normal = (latents - torch.tensor(stats.mean)) / torch.tensor(stats.std)
    assert normal.mean(0).abs().mean() < 0.5
    assert 0.5 < normal.std(0).mean() < 1.5
