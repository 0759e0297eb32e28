"""bf16 and autocast stay near fp32, and gradients flow through both ways."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import atoken
from atoken import PRESETS, AToken, Packed, Tokens, read_image
from atoken.metrics.psnr import psnr
from atoken.nn.packed import dense_coords

PHOTO = "src/atoken/assets/photos/chelsea.jpg"


@pytest.fixture(scope="module")
def photo(request):
    return read_image(request.config.rootpath / PHOTO)[:200, :240]


@pytest.mark.slow
def test_bf16_stays_near_fp32_on_a_photograph(photo):
    """Relative error of the latents at most 2 %, and at least 40 dB between both reconstructions."""
    fp32, bf16 = (atoken.load("nano", dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    exact, rounded = (model.encode(photo) for model in (fp32, bf16))
    error = (rounded.latents - exact.latents).norm() / exact.latents.norm()
    assert error < 0.02
    assert psnr(bf16.decode(rounded), fp32.decode(exact)) > 40
    assert fp32.weights_hash == bf16.weights_hash


@pytest.mark.parametrize("case", ["image", "two_images", "video", "voxels"])
@torch.no_grad()
def test_bf16_stays_near_the_golden_values(golden, case):
    """Random weights are the hard case; still within 3 % of the recorded fp32 values."""
    model = golden.model().to(torch.bfloat16)
    out = model.encode_packed(Packed(golden.feats(case), golden[f"{case}/coords"]))
    for name in ("moments", "hidden", "pooled"):
        exact = golden[f"{case}/{name}"]
        assert (getattr(out, name).float() - exact).norm() < 0.03 * exact.norm(), name


@torch.no_grad()
def test_what_is_promised_in_fp32_is_fp32():
    model = AToken(PRESETS["tiny"]).to(torch.bfloat16)
    out = model.encode_packed(Packed.cat([(torch.randn(6, 3072), dense_coords((1, 2, 3, 1)))]))
    assert (out.moments.dtype, out.pooled.dtype) == (torch.float32, torch.float32)
    torch.testing.assert_close(out.pooled.norm(dim=-1), torch.ones(1))


def test_codes_are_the_same_under_autocast(photo):
    torch.manual_seed(0)
    model = AToken(PRESETS["tiny"]).eval()
    z = 4 * torch.randn(500, 48)
    codes = model.fsq(z)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.fsq.codes_to_indices(model.fsq(z)), model.fsq.codes_to_indices(codes))
    tokens = model.encode(photo, kind="discrete")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tokens.latents, model.fsq.indices_to_codes(tokens.codes))


@pytest.mark.parametrize("autocast", [False, True])
def test_every_weight_has_a_gradient(autocast):
    torch.manual_seed(0)
    model = AToken(PRESETS["tiny"])
    coords = torch.cat([dense_coords((5, 2, 2, 1)), dense_coords((1, 3, 3, 1))])
    sample = torch.tensor([0] * 20 + [1] * 9, dtype=torch.int32)[:, None]
    batch = Packed(torch.randn(29, 3072), torch.cat([sample, coords], 1))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = model.encode_packed(batch)
        patches = model.decode_packed(Packed(out.posterior.sample(), batch.coords))
        (patches.float().square().mean() + out.pooled[:, 0].sum()).backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not dead
    assert sum(p.grad.abs().sum() > 0 for p in model.parameters()) == len(list(model.parameters()))


def test_fused_layers_of_inference_and_plain_ones_of_training_agree():
    torch.manual_seed(0)
    model = AToken(PRESETS["tiny"])
    batch = Packed.cat([(torch.randn(6, 3072), dense_coords((1, 2, 3, 1)))])
    with torch.no_grad():
        inference = model.encode_packed(batch).moments
    torch.testing.assert_close(model.encode_packed(batch).moments, inference, atol=1e-5, rtol=1e-4)


def test_inference_under_autocast():
    torch.manual_seed(0)
    model = AToken(PRESETS["tiny"])
    batch = Packed.cat([(torch.randn(6, 3072), dense_coords((1, 2, 3, 1)))])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        moments = model.encode_packed(batch).moments
    torch.testing.assert_close(moments, model.encode_packed(batch).moments, atol=0.05, rtol=0.05)


def test_large_and_long_pictures_keep_their_size():
    model = AToken(PRESETS["tiny"])
    for shape in ((1, 1, 3), (1, 700, 3), (300, 17, 3)):
        picture = np.full(shape, 200, np.uint8)
        assert model.decode(model.encode(picture)).shape == shape


BF16 = """
import torch
from atoken import PRESETS, AToken
torch.manual_seed(0)
model = AToken(PRESETS["tiny"]).to(torch.bfloat16)
assert model.decode(model.encode(torch.zeros(3, 20, 33, dtype=torch.uint8))).shape == (20, 33, 3)
"""


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["AVX2", "AVX512_CORE", "AVX512_CORE_BF16", "DEFAULT"])
def test_bf16_runs_on_every_instruction_set(isa):
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": isa}
    result = subprocess.run([sys.executable, "-c", BF16], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_latents_of_a_bf16_model_and_of_autocast_are_projected_in_fp32():
    torch.manual_seed(0)
    model = AToken(PRESETS["tiny"]).eval()
    batch = Packed.cat([(torch.randn(6, 3072), dense_coords((1, 2, 3, 1)))])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        out = model.encode_packed(batch)
    torch.testing.assert_close(out.moments, out.hidden.float() @ model.proj.weight.T, atol=1e-5, rtol=0)
    model.to(torch.bfloat16)
    with torch.no_grad():
        out = model.encode_packed(batch)
    assert out.hidden.dtype == torch.bfloat16
    torch.testing.assert_close(out.moments, out.hidden.float() @ model.proj.weight.float().T, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_say_which_dtype_computed_them(dtype, photo, tmp_path):
    model = AToken(PRESETS["tiny"]).eval().to(dtype)
    tokens = model.encode(photo, kind="discrete")
    assert tokens.compute_dtype == str(dtype).removeprefix("torch.")
    tokens.save(tmp_path / "a.atok")
    assert Tokens.load(tmp_path / "a.atok").compute_dtype == tokens.compute_dtype
    assert model.to(torch.float32).decode(tokens).shape == photo.shape, "each dtype decodes the tokens of the other"
