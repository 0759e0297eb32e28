"""Masked generators behind the same door as flows: words and labels to pictures, saved and loaded, refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from generators import WORDS, tokenizer
from masked_parts import masked_generator, small

import atoken
from atoken import PRESETS, AToken, Tokens
from atoken.generation.condition import Condition
from atoken.generation.masked.generator import MaskedGenerator
from atoken.generation.pipeline import GenerationPipeline
from atoken.nn.packed import dense_coords
from refusals import refused


def test_words_become_codes_and_pictures_of_any_size(model, letters):
    gen = masked_generator(model, text_width=WORDS)
    pictures = gen(["a red heart", "moon"], steps=2, guidance=2.0, temperature=0.9, seeds=1)
    assert [p.shape for p in pictures] == [(32, 48, 3)] * 2
    assert pictures[0].dtype == np.uint8
    wide = gen("moon", steps=2, seeds=1, size=(16, 64), output="tokens")[0]
    assert isinstance(wide, Tokens)
    assert wide.kind == "discrete"
    assert wide.grid == (1, 1, 4, 1)
    assert wide.weights == model.weights_hash
    assert model.decode(wide).shape == (16, 64, 3)


def test_images_guide_by_their_codes(model):
    gen = masked_generator(model, image_width=48)
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    tokens = [model.encode(picture, kind="discrete"), model.encode(255 - picture, kind="discrete")]
    first, second = gen(images=tokens, steps=2, seeds=[1, 1], output="tokens")
    assert first != second


def test_clips_and_assets_are_drawn_at_their_coordinates(model):
    gen = masked_generator(model, classes=3)
    places = [dense_coords((3, 2, 2, 1)), torch.tensor([[0, 3, 1, 4], [0, 9, 9, 9]], dtype=torch.int32)]
    options = gen.options({"steps": 2})
    together = gen.sample(places, Condition(torch.tensor([0, 1])), [1, 2], options)
    in_turns = gen.sample(places, Condition(torch.tensor([0, 1])), [1, 2], options, token_budget=12)
    assert [codes.shape for codes in together] == [(12, 8), (2, 8)]
    for codes, others in zip(together, in_turns, strict=True):
        assert codes.dtype == torch.uint16
        assert torch.equal(codes.int(), others.int())


@pytest.mark.slow
@pytest.mark.parametrize("order", ["random", "raster"])
def test_saved_and_loaded_is_the_same(order, model, tmp_path):
    gen = masked_generator(model, classes=3, labels=("cat", "dog", "cow"), order=order)
    gen.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["generator"] == "masked"
    loaded = atoken.load_generator(tmp_path, tokenizer=model)
    assert isinstance(loaded, MaskedGenerator)
    assert loaded.config == gen.config
    a, b = (g(class_labels="dog", guidance=2.0, seeds=3, output="tokens")[0] for g in (gen, loaded))
    assert a == b
    pipe = GenerationPipeline(loaded)
    assert pipe(class_labels=[1], guidance_scale=2.0, generator=torch.Generator()).images[0].size == (48, 32)


def test_int8_has_nearly_the_same_features(model, tmp_path):
    gen = masked_generator(model, classes=3)
    gen.save_pretrained(tmp_path, storage="int8")
    loaded = atoken.load_generator(tmp_path, tokenizer=model)
    coords = dense_coords((1, 2, 2, 1))
    codes, known = torch.zeros(4, 8, dtype=torch.int64), torch.tensor([True, False, True, False])
    with torch.no_grad():
        x, y = (
            g.net.features(codes, known, coords, [4], g.net.told(Condition(torch.tensor([1])), 1))
            for g in (gen, loaded)
        )
    assert 0 < float((x - y).norm() / y.norm()) < 0.05  # weights are rounded to 1/254 of the largest


def test_what_is_refused(model, tmp_path):
    gen = masked_generator(model, classes=3)
    gen.save_pretrained(tmp_path)
    other = tokenizer(1)
    with refused("tiny", model.weights_hash[:12], other.weights_hash[:12]):
        atoken.load_generator(tmp_path, tokenizer=other)
    torch.manual_seed(0)
    continuous = AToken(replace(PRESETS["tiny"], kinds=("continuous",))).eval()
    with refused("continuous", "discrete"):
        masked_generator(continuous)
    with refused("codes"):
        MaskedGenerator(replace(gen.config, net=small(classes=3).config), small(classes=3), model)
    for how, names in (
        ({"steps": 0}, ("steps", "0")),
        ({"temperature": -1.0}, ("temperature", "-1")),
        ({"shift": 2.0}, ("shift", "temperature")),
        ({"method": "heun"}, ("method",)),
    ):
        with refused(*names):
            gen(class_labels=[1], **how)
    raster = masked_generator(model, classes=3, order="raster")
    with refused("steps", "raster"):
        raster(class_labels=[1], steps=3)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, names in (
        ({"net": config["net"] | {"decoder_depth": 900}}, ("depth", "902")),
        ({"net": config["net"] | {"head_depth": 1}}, ("net.head.blocks.1", "surplus")),
        ({"generator": "flow"}, ("key",)),
        ({"whitened": True}, ("whitened",)),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with refused(str(tmp_path), *names):
            atoken.load_generator(tmp_path, tokenizer=model)


def test_nan_is_an_error_never_a_picture(model):
    gen = masked_generator(model, classes=3)
    with torch.no_grad():
        gen.net.blocks[1].mlp.mlp[0].weight[0, 0] = torch.nan
    with refused("NaN"):
        gen(class_labels=[1], steps=2)
