"""Weights stored in one byte each."""

from __future__ import annotations

import pytest
import torch

import atoken
from atoken import PRESETS, AToken
from atoken.weights.int8 import KEPT, pack_int8, unpack_int8


def test_errs_by_at_most_half_a_step():
    state = {"w": torch.randn(7, 33) * torch.logspace(-6, 3, 7)[:, None], "b": torch.randn(5)}
    back = unpack_int8(pack_int8(state))
    assert back.keys() == state.keys()
    step = state["w"].abs().amax(1, keepdim=True) / 127
    assert ((back["w"] - state["w"]).abs() <= 0.5001 * step).all()
    assert torch.equal(back["b"], state["b"].bfloat16())


def test_a_row_of_zeros_stays_one():
    assert torch.equal(unpack_int8(pack_int8({"w": torch.zeros(2, 3)}))["w"], torch.zeros(2, 3))


def test_packing_what_was_unpacked_changes_nothing():
    packed = pack_int8({"w": torch.randn(16, 40)})
    again = pack_int8(unpack_int8(packed))
    assert torch.equal(packed["w"], again["w"])
    torch.testing.assert_close(packed["w.scale"], again["w.scale"])


def test_a_model_stored_in_int8_loads_like_any_other(tmp_path):
    torch.manual_seed(0)
    model = AToken(PRESETS["tiny"])
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "small", storage="int8")
    whole, small = ((tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "small"))
    kept = sum(model.state_dict()[name].numel() for name in KEPT)
    assert small < 0.3 * (whole - 4 * kept) + 2 * kept
    loaded = atoken.load(tmp_path / "small")
    for name, tensor in model.state_dict().items():
        assert (loaded.state_dict()[name] - tensor).abs().max() <= 0.01 * tensor.abs().max() + 1e-6
    assert atoken.load(tmp_path / "small").weights_hash == loaded.weights_hash


def test_a_missing_scale_and_an_unknown_storage_are_named(tmp_path):
    packed = pack_int8({"w": torch.randn(2, 3)})
    del packed["w.scale"]
    with pytest.raises(ValueError, match=r"w\.scale is missing"):
        unpack_int8(packed)
    with pytest.raises(ValueError, match="int4"):
        AToken(PRESETS["tiny"]).save_pretrained(tmp_path / "x", storage="int4")
    assert not (tmp_path / "x").exists()
