"""Our model reproduces the released computation: fp32, within 2e-5 on every recorded tensor."""

from __future__ import annotations

import pytest
import torch

from atoken import Packed
from atoken.nn.fsq import FSQ

CASES = ["image", "image_crop", "two_images", "video", "voxels", "large_grid"]
TOLERANCE = {"atol": 2e-5, "rtol": 0.0}


@pytest.mark.parametrize("case", CASES)
def test_encoder(golden, case):
    out = golden.model().encode_packed(Packed(golden.feats(case), golden[f"{case}/coords"]))
    torch.testing.assert_close(out.moments, golden[f"{case}/moments"], **TOLERANCE)
    torch.testing.assert_close(out.hidden, golden[f"{case}/hidden"], **TOLERANCE)
    torch.testing.assert_close(out.pooled, golden[f"{case}/pooled"], **TOLERANCE)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("latents", "expected"), [("moments", "mean"), ("fsq_codes", "fsq")])
def test_decoder(golden, case, latents, expected):
    packed = Packed(golden[f"{case}/{latents}"][:, :48].contiguous(), golden[f"{case}/coords"])
    decoded = golden.model().decode_packed(packed)
    assert decoded.shape == (len(packed.feats), 3072)
    torch.testing.assert_close(decoded[:, ::24], golden[f"{case}/decoded_from_{expected}"], **TOLERANCE)


def test_decoder_with_memory(golden):
    model = golden.model(decoder_tile=3, decoder_cache=1)
    decoded = model.decode_packed(Packed(golden["video/moments"][:, :48].contiguous(), golden["video/coords"]))
    torch.testing.assert_close(decoded[:, ::24], golden["video/decoded_kv_stride12_cache4"], **TOLERANCE)


@pytest.mark.parametrize("case", CASES)
def test_fsq(golden, case):
    fsq = golden.model().fsq
    codes = fsq(golden[f"{case}/fsq_in"])
    torch.testing.assert_close(codes, golden[f"{case}/fsq_codes"], **TOLERANCE)
    assert torch.equal(fsq.codes_to_indices(codes), golden[f"{case}/fsq_indices"].long())


def test_fsq_all_codes(golden):
    table = FSQ([(4,) * 6]).indices_to_codes(torch.arange(4096)[:, None])
    torch.testing.assert_close(table.flatten(), golden["codes_of_all_4096/indices_to_codes"], **TOLERANCE)
