"""A grown model computes what the small one did."""

from __future__ import annotations

import pytest
import torch

from atoken import PRESETS, AToken, Packed
from atoken.nn.packed import dense_coords
from atoken.train.growth import deepen, still_start
from refusals import refused


@pytest.fixture
def model():
    torch.manual_seed(0)
    return AToken(PRESETS["tiny"]).eval()


@pytest.fixture
def batch():
    coords = dense_coords((1, 3, 4, 1))
    return Packed.cat([(torch.randn(12, 768).clamp(-1, 1), coords), (torch.randn(12, 768).clamp(-1, 1), coords)])


@torch.no_grad()
def test_a_deeper_model_starts_where_the_small_one_stands(model, batch):
    grown = deepen(model, 4, 5, name="deep")
    assert (len(grown.encoder.blocks), len(grown.decoder.blocks), grown.config.name) == (4, 5, "deep")
    before, after = model.encode_packed(batch), grown.encode_packed(batch)
    assert torch.equal(before.moments, after.moments)
    assert torch.equal(before.pooled, after.pooled)
    latents = Packed(before.posterior.mode(), batch.coords)
    assert torch.equal(model.decode_packed(latents), grown.decode_packed(latents))


def test_the_new_blocks_learn(model, batch):
    grown = deepen(model, 3, 3)
    latents = Packed(grown.encode_packed(batch).posterior.mode(), batch.coords)
    grown.decode_packed(latents).square().mean().backward()
    for blocks in (grown.encoder.blocks, grown.decoder.blocks):
        assert blocks[-1].mlp.mlp[2].weight.grad.abs().max() > 0
        assert blocks[-1].attn.to_out.weight.grad.abs().max() > 0


def test_a_model_does_not_become_shallower(model):
    with refused("1 + 2"):
        deepen(model, 1, 2)


@torch.no_grad()
def test_a_still_start_repeats_frame_0(model, batch):
    latents = Packed(torch.randn(24, 48), batch.coords)
    frame = model.decode_packed(latents, features=768)
    moments = model.encode_packed(batch).moments
    still_start(model)
    assert torch.equal(model.decode_packed(latents), frame.repeat(1, 4))
    video = Packed(torch.cat([batch.feats, torch.randn(24, 2304)], 1), batch.coords)
    torch.testing.assert_close(model.encode_packed(video).moments, moments)
