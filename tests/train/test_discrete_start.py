"""A discrete model that starts as a rounded continuous one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from atoken import PRESETS, AToken, Packed
from atoken.nn.packed import dense_coords
from atoken.train.discrete_start import allocate, best_scalar, discrete_start, group_bits
from atoken.train.linear_start import linear_start
from refusals import refused


@pytest.fixture(scope="module")
def batches():
    """Patches of 40 directions whose strengths fall by a tenth each, as those of photographs do."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(768, 40, generator=generator)).Q * 3 * 0.9 ** torch.arange(40)
    coords = torch.cat([torch.zeros(1024, 1, dtype=torch.int32), dense_coords((1, 32, 32, 1))], 1)
    return [Packed(torch.randn(1024, 40, generator=generator) @ directions.T, coords) for _ in range(3)]


@pytest.fixture(scope="module")
def continuous(batches):
    torch.manual_seed(0)
    model = AToken(replace(PRESETS["tiny"], kinds=("continuous",), latent_norm=False, output_norm=False))
    linear_start(model, torch.cat([batch.feats for batch in batches]))
    return model.eval()


def error(model, batch, discrete):
    with torch.no_grad():
        latents = model.encode_packed(batch).posterior.mode()
        latents = model.fsq(latents) if discrete else latents
        return (model.decode_packed(Packed(latents, batch.coords), features=768) - batch.feats).square().mean()


@pytest.mark.slow
def test_starts_close_to_the_continuous_model(continuous, batches):
    started = discrete_start(continuous, batches)
    assert started.config.kinds == ("discrete",)
    assert [len(group) for group in started.config.fsq_levels] == started.fsq.sizes
    assert started.fsq.codebook_sizes == [4096] * 8
    signal = batches[0].feats.square().mean()
    assert error(continuous, batches[0], False) < 1e-3 * signal
    assert error(started, batches[0], True) < 0.05 * signal  # two bits for each direction would leave 0.12


@pytest.mark.slow
def test_alignment_with_texts_is_left_behind(continuous, batches):
    aligned = AToken(replace(continuous.config, text_tower="x", embed_dim=24, embed_tokens=4))
    aligned.load_state_dict(continuous.state_dict(), strict=False)
    started = discrete_start(aligned, batches)
    assert (started.config.text_tower, started.config.embed_dim, started.config.embed_tokens) == (None, None, None)
    assert error(started, batches[0], True) < 0.05 * batches[0].feats.square().mean()  # the rest came along


def test_bits_go_where_they_help_most():
    y = torch.randn(4096, 6, generator=torch.Generator().manual_seed(1))
    bits, scalars = allocate(y, torch.tensor([100.0, 30.0, 10.0, 1.0, 1.0, 1e-6]), 18)
    assert sum(bits) == 18
    assert bits[:3] == sorted(bits[:3], reverse=True)
    assert bits[0] > bits[3] > 0 == bits[5]
    assert scalars[0].error < scalars[3].error < scalars[5].error == 1.0


def test_a_scalar_quantizer_is_near_the_best_there_is():
    y = torch.randn(50_000, generator=torch.Generator().manual_seed(2))
    # Lloyd and Max: 0.1175 of the variance with four levels, 0.3634 with two.
    assert best_scalar(y, 4).error == pytest.approx(0.1175, rel=0.05)
    assert best_scalar(y, 2).error == pytest.approx(0.3634, rel=0.02)


@pytest.mark.parametrize("bits", [[6] * 16, [4] * 24, [2] * 48, [6, 6, 6, 5, 5, 5, 5, 5, 4, 4, 4, *[3] * 11, *[2] * 4]])
def test_codes_are_filled_exactly(bits):
    groups = group_bits(bits, 8)
    assert [sum(bits[i] for i in group) for group in groups] == [12] * 8
    assert sorted(i for group in groups for i in group) == list(range(len(bits)))


def test_bits_that_do_not_divide_are_refused():
    with refused("bits"):
        group_bits([5] * 16 + [1] * 16, 8 + 1)


def test_refuses_a_model_that_normalises_before_its_latents(batches):
    with refused("latent norm"):
        discrete_start(AToken(PRESETS["tiny"]), batches)
