"""Configs: typos and wrong types raise, and what is written reads back."""

import json
from dataclasses import FrozenInstanceError, dataclass, field, replace

import pytest

from atoken import PRESETS, AToken, ModelConfig
from atoken.config import from_mapping

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
    ("change", "words"),
    [
        ({"widht": 64}, "unknown key 'widht'; the keys are name, width"),
        ({"width": "64"}, "key 'width': expected int, found '64'"),
        ({"width": 64.0}, "key 'width': expected int, found 64.0"),
        ({"width": True}, "key 'width': expected int, found True"),
        ({"width": None}, "key 'width': expected int, found None"),
        ({"latent_norm": 1}, "key 'latent_norm': expected bool, found 1"),
        ({"kinds": "discrete"}, "key 'kinds'"),
        ({"kinds": [1]}, "key 'kinds'[0]: expected str, found 1"),
        ({"fsq_levels": [[4, "4"]]}, "key 'fsq_levels'[0][1]: expected int, found '4'"),
        ({"kinds": ["words"]}, "kinds ('words',) must name some of"),
        ({"kinds": []}, "kinds () must name some of"),
        ({"kinds": ["discrete", "discrete"]}, "each once"),
        ({"width": 0}, "width must be positive, not 0"),
        ({"heads": 3}, "width 64 must be 3 heads"),
        ({"heads": 16}, "a multiple of 8"),
        ({"latent_channels": 47}, "fsq_levels quantize 48 numbers, latent_channels are 47"),
        ({"fsq_levels": [[4, 1]], "kinds": ["continuous"]}, "must be at least 2"),
        ({"fsq_levels": [[64, 64, 64]], "kinds": ["continuous"]}, "at most 65536"),
        ({"decoder_cache": 5}, "decoder_cache 5 must lie between 0 and decoder_tile 4"),
    ],
)
def test_what_does_not_fit_is_named(change, words):
    with pytest.raises(ValueError, match="model config") as caught:
        ModelConfig.from_dict({**TINY, **change})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_key_and_no_table_at_all():
    without = {key: value for key, value in TINY.items() if key != "heads"}
    with pytest.raises(ValueError, match="key 'heads' is missing"):
        ModelConfig.from_dict(without)
    with pytest.raises(ValueError, match="expected a table of keys, found list"):
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
    for values, words in (
        ({"inner": {"rat": 1}}, "here, key 'inner': unknown key 'rat'"),
        ({"inner": {"path": 3}}, "here, key 'inner', key 'path': expected str, found 3"),
        ({"pair": [1.0]}, "here, key 'pair'"),
    ):
        with pytest.raises(ValueError, match="here") as caught:
            from_mapping(Outer, values, "here")
        assert words in str(caught.value)


def test_the_config_decides_the_architecture():
    plain = AToken(replace(PRESETS["tiny"], latent_norm=False, output_norm=False)).state_dict()
    whole = AToken(PRESETS["tiny"]).state_dict()
    assert set(whole) - set(plain) == {"decoder.out_norm.weight"}
    assert whole["proj.weight"].shape == (96, 64)
    assert whole["encoder.input_layer.weight"].shape == (64, 3072)
