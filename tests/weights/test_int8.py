"""Weights stored in one byte each."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import atoken
from atoken import PRESETS, AToken
from atoken.tokenizer.config import GaussianConfig
from atoken.weights.config import SHIPPED
from atoken.weights.int8 import KEPT, linear_weights, pack_int8, unpack_int8
from refusals import refused


def test_errs_by_at_most_half_a_step():
    state = {"w": torch.randn(7, 33) * torch.logspace(-6, 3, 7)[:, None], "b": torch.randn(5)}
    back = unpack_int8(pack_int8(state, {"w"}))
    assert back.keys() == state.keys()
    step = state["w"].abs().amax(1, keepdim=True) / 127
    assert ((back["w"] - state["w"]).abs() <= 0.5001 * step).all()
    assert torch.equal(back["b"], state["b"].bfloat16())


def test_a_row_of_zeros_stays_one():
    assert torch.equal(unpack_int8(pack_int8({"w": torch.zeros(2, 3)}, {"w"}))["w"], torch.zeros(2, 3))


def test_packing_what_was_unpacked_changes_nothing():
    packed = pack_int8({"w": torch.randn(16, 40)}, {"w"})
    again = pack_int8(unpack_int8(packed), {"w"})
    assert torch.equal(packed["w"], again["w"])
    torch.testing.assert_close(packed["w.scale"], again["w.scale"])


def test_only_weights_of_linear_layers_are_rounded_to_a_byte():
    torch.manual_seed(0)
    model = AToken(replace(PRESETS["tiny"], gaussians=GaussianConfig(width=64, heads=1, depth=1, mlp_width=64)))
    packed = pack_int8(model.state_dict(), linear_weights(model))
    small = {name for name, tensor in packed.items() if tensor.dtype == torch.int8}
    assert {"encoder.blocks.0.attn.to_qkv.weight", "gaussians.blocks.0.mlp.mlp.0.weight"} <= small
    others = ("gamma", "position_embedding.weight", "offset_perturbation", "probe", "norm1.weight", "bias")
    assert all(packed[name].dtype == torch.bfloat16 for name in packed if name.endswith(others))
    assert not small & set(KEPT)


def test_scales_are_no_denormal_numbers():
    tiny = torch.finfo(torch.float32).tiny
    weights = torch.tensor([[tiny, -tiny], [tiny * 200, 0.0], [1e-45, 0.0]])
    packed = pack_int8({"w": weights}, {"w"})
    assert (packed["w.scale"] >= tiny).all()
    assert ((unpack_int8(packed)["w"] - weights).abs() <= packed["w.scale"][:, None] * 0.5001).all()


@pytest.mark.parametrize(
    ("weight", "scale"),
    [((), ()), ((5,), (5,)), ((2, 3), (3,)), ((2, 3), (2, 1)), ((2, 3, 4), (2,))],
)
def test_shapes_that_are_no_matrix_and_its_scales(weight, scale):
    state = {"w": torch.zeros(weight, dtype=torch.int8), "w.scale": torch.ones(scale)}
    with refused("w.scale"):
        unpack_int8(state)
    with refused("w.scale"):
        unpack_int8({"w": torch.zeros(2, 3, dtype=torch.int8), "w.scale": torch.ones(2, dtype=torch.int64)})


def test_what_the_config_decides_is_not_stored_and_other_constants_are(tmp_path):
    torch.manual_seed(0)
    model = AToken(replace(PRESETS["tiny"], gaussians=GaussianConfig(width=64, heads=1, depth=1, mlp_width=64)))
    constant = "gaussians.offset_perturbation"
    for storage in (None, "int8"):
        model.save_pretrained(tmp_path / "own", storage=storage)
        with safe_open(tmp_path / "own" / "model.safetensors", "pt") as file:
            assert constant not in file.keys()  # noqa: SIM118 (the file is no dict)
        loaded = atoken.load(tmp_path / "own")
        assert torch.equal(loaded.state_dict()[constant], model.state_dict()[constant])
    model.gaussians.offset_perturbation.mul_(0.5)
    model.save_pretrained(tmp_path / "other")
    assert torch.equal(atoken.load(tmp_path / "other").state_dict()[constant], model.state_dict()[constant])


@pytest.mark.slow
@pytest.mark.parametrize("name", atoken.list_models())
def test_shipped_files_load_to_their_very_numbers(name):
    """Files of before hold gains and constants in int8, too: what is in a file is taken as it is."""
    file = load_file(SHIPPED / name / "model.safetensors")
    state = atoken.load(name).state_dict()
    for key, tensor in file.items():
        if not key.endswith(".scale"):
            scale = file[f"{key}.scale"][:, None] if tensor.dtype == torch.int8 else 1
            assert torch.equal(state[key], tensor.float() * scale), key


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
    packed = pack_int8({"w": torch.randn(2, 3)}, {"w"})
    del packed["w.scale"]
    with refused("w.scale"):
        unpack_int8(packed)
    with refused("int4", "int8"):
        AToken(PRESETS["tiny"]).save_pretrained(tmp_path / "x", storage="int4")
    assert not (tmp_path / "x").exists()
