"""The linear start is the best linear autoencoder."""

from dataclasses import replace

import pytest
import torch

from atoken import PRESETS, AToken, Packed
from atoken.nn.packed import dense_coords
from atoken.train.linear_start import linear_start, principal_directions
from refusals import refused

SMALL = replace(PRESETS["tiny"], name="small", latent_norm=False, output_norm=False)


@pytest.mark.slow
def test_the_linear_start_is_the_best_projection():
    torch.manual_seed(0)
    patches = torch.randn(1000, 768) * (0.97 ** torch.arange(768)) + 0.2
    model = AToken(SMALL).eval()
    linear_start(model, patches)
    coords = torch.cat([torch.zeros(32, 1, dtype=torch.int32), dense_coords((1, 4, 8, 1))], 1)
    with torch.no_grad():
        latents = model.encode_packed(Packed(patches[:32], coords)).posterior.mode()
        back = model.decode_packed(Packed(latents, coords), features=768)
    directions = torch.linalg.svd(patches, full_matrices=False).Vh[:48]
    torch.testing.assert_close(back, patches[:32] @ directions.T @ directions, atol=2e-3, rtol=1e-3)
    whole = patches @ directions.T
    torch.testing.assert_close(latents.abs(), (whole[:32] / whole.square().mean(0).sqrt()).abs(), atol=2e-3, rtol=1e-2)


def test_principal_directions_are_orthonormal_and_sorted():
    patches = torch.randn(500, 20) * torch.arange(1, 21)
    directions, deviation = principal_directions(patches, 5)
    torch.testing.assert_close(directions @ directions.T, torch.eye(5), atol=1e-5, rtol=0)
    torch.testing.assert_close((patches @ directions.T).square().mean(0).sqrt(), deviation)
    assert (deviation[:-1] >= deviation[1:]).all()


def test_a_linear_start_embeds_the_mean_of_the_tokens():
    model = AToken(SMALL).eval()
    linear_start(model, torch.randn(200, 768))
    out = model.encode_packed(Packed.cat([(torch.randn(6, 768), dense_coords((1, 2, 3, 1)))]))
    expected = torch.nn.functional.normalize(out.hidden.mean(0), dim=-1)
    torch.testing.assert_close(out.pooled[0], expected, atol=1e-5, rtol=1e-4)


def test_a_model_with_final_norms_cannot_start_so():
    with refused("norms"):
        linear_start(AToken(PRESETS["tiny"]), torch.zeros(1, 768))
