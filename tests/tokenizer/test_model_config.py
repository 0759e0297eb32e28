"""Configs: typos and wrong types raise, and what is written reads back."""

import json
from dataclasses import FrozenInstanceError, dataclass, field, replace

import pytest

from atoken import PRESETS, AToken, ModelConfig
from atoken.core.mapping import from_mapping
from refusals import refused

TINY = PRESETS["tiny"].to_dict()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name):
    assert ModelConfig.from_dict(json.loads(json.dumps(PRESETS[name].to_dict()))) == PRESETS[name]


def test_the_large_presets_are_those_of_the_paper():
    base, so400m = PRESETS["base"], PRESETS["so400m"]
    assert (base.width, base.heads, base.encoder_depth, base.decoder_depth) == (768, 12, 12, 12)
    assert (so400m.width, so400m.heads, so400m.encoder_depth, so400m.decoder_depth) == (1152, 16, 27, 27)
    assert (so400m.mlp_width, so400m.latent_channels, so400m.head_dim) == (4304, 48, 72)


def test_a_config_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        PRESETS["tiny"].width = 128


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"widht": 64}, ["widht", "width"]),
        ({"width": "64"}, ["width", "int", "'64'"]),
        ({"width": 64.0}, ["width", "int", "64.0"]),
        ({"width": True}, ["width", "int", "True"]),
        ({"width": None}, ["width", "int", "None"]),
        ({"latent_norm": 1}, ["latent_norm", "bool", 1]),
        ({"kinds": "discrete"}, ["kinds"]),
        ({"kinds": [1]}, ["kinds", "[0]", "str", 1]),
        ({"fsq_levels": [[4, "4"]]}, ["fsq_levels", "[0][1]", "int", "'4'"]),
        ({"kinds": ["words"]}, ["kinds", "words", "continuous"]),
        ({"kinds": []}, ["kinds", "continuous"]),
        ({"kinds": ["discrete", "discrete"]}, ["kinds"]),
        ({"width": 0}, ["width", 0]),
        ({"heads": 3}, ["width 64", "3 heads"]),
        ({"heads": 16}, ["width", "multiple of 8"]),
        ({"latent_channels": 47}, ["fsq_levels", 48, "latent_channels", 47]),
        ({"fsq_levels": [[4, 1]], "kinds": ["continuous"]}, ["fsq_levels", 2]),
        ({"fsq_levels": [[64, 64, 64]], "kinds": ["continuous"]}, ["fsq_levels", 65536]),
        ({"decoder_cache": 5}, ["decoder_cache", 5, "decoder_tile", 4]),
        ({"embed_dim": 2**64}, ["embed_dim", 2**64, 2**20]),
        ({"embed_tokens": 10**400}, ["embed_tokens", 2**20]),
        ({"width": 2**40, "heads": 2**36}, ["width", 2**40, 2**20]),
        ({"encoder_depth": 10**6}, ["encoder_depth", 10**6, 1000]),
        ({"table_size": 2**31}, ["table_size", 1024]),
        ({"logit_scale": 10**400}, ["logit_scale", "float"]),
        ({"logit_bias": float("nan")}, ["logit_bias", "float", "nan"]),
        ({"logit_bias": float("-inf")}, ["logit_bias", "float", "-inf"]),
        ({"gelu": "x" * 10_000}, ["gelu", "xxx", "tanh"]),
        ({"name": "x" * 10_000, "width": 0}, ["width", 0]),
        ({"gaussians": {"per_voxel": 2**62}}, ["per_voxel", 256]),
        ({"gaussians": {"scale": 10**400}}, ["gaussians", "scale"]),
        ({"fsq_levels": [[10**400] * 48]}, ["fsq_levels", 65536]),
        ({"fsq_levels": "x" * 10_000}, ["fsq_levels"]),
    ],
)
def test_what_does_not_fit_is_named(change, named):
    with refused(*named):
        ModelConfig.from_dict({**TINY, **change})


def test_a_missing_key_and_no_table_at_all():
    without = {key: value for key, value in TINY.items() if key != "heads"}
    with refused("model config", "heads"):
        ModelConfig.from_dict(without)
    with refused("model config", "list"):
        ModelConfig.from_dict([1, 2])


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    path: str | None = None


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    pair: tuple[float, float] = (0.0, 1.0)


def test_nested_configs_name_the_place():
    built = from_mapping(Outer, {"inner": {"rate": 1, "path": None}, "pair": [1, 2.5]}, "here")
    assert built == Outer(Inner(1.0, None), (1.0, 2.5))
    assert isinstance(built.inner.rate, float)
    for values, named in (
        ({"inner": {"rat": 1}}, ["inner", "rat", "rate"]),
        ({"inner": {"path": 3}}, ["inner", "path", "str", 3]),
        ({"pair": [1.0]}, ["pair"]),
    ):
        with refused("here", *named):
            from_mapping(Outer, values, "here")


def test_the_config_decides_the_architecture():
    plain = AToken(replace(PRESETS["tiny"], latent_norm=False, output_norm=False)).state_dict()
    whole = AToken(PRESETS["tiny"]).state_dict()
    assert set(whole) - set(plain) == {"decoder.out_norm.weight"}
    assert whole["proj.weight"].shape == (96, 64)
    assert whole["encoder.input_layer.weight"].shape == (64, 3072)
