"""train: a few steps on noise."""

import json
import logging
import sys

import numpy as np
import pytest

import atoken as library
from refusals import check_names

RECIPE = """
model: tiny
steps: 3
tasks:
  - task: image-reconstruction
    ratio: 1
    tokens: 8
    crops: {{path: {path}, sizes: [32]}}
optimizer:
  warmup: 1
parallel:
  autocast: false
log:
  every: 1
  checkpoint_every: 2
"""


@pytest.fixture
def recipe(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    np.random.default_rng(0).integers(0, 256, 48 * 40 * 3, dtype=np.uint8).tofile(data / "train.bin")
    (data / "train.json").write_text(json.dumps([{"offset": 0, "height": 48, "width": 40, "weight": 1.0}]))
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(path=data))
    return path


@pytest.mark.slow
def test_a_run_writes_a_model_and_shows_its_log(atoken, recipe, tmp_path):
    out = tmp_path / "run"
    result = atoken("train", recipe, "--out", out, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert [line.split()[:2] for line in result.stderr.splitlines()] == [["step", str(n)] for n in (1, 2, 3)]
    check_names(result.stdout, "3 steps", "tiny", out / "model")
    assert library.load(out / "model").config.width == 64
    assert [path.name for path in sorted((out / "checkpoints").iterdir())] == ["step-0000002", "step-0000003"]
    assert logging.getLogger("atoken").handlers == []


@pytest.mark.slow
def test_a_finished_run_has_nothing_left_to_do(atoken, recipe, tmp_path):
    for _ in range(2):
        result = atoken("train", recipe, "--out", tmp_path / "run", "--device", "cpu")
        assert result.exit_code == 0
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("model: tiny\nspeed: 9\n", "speed"),
        ("model: [", "YAML"),
        ("", "recipe.yaml"),
        (RECIPE.format(path="nowhere"), "nowhere"),
    ],
)
def test_a_bad_recipe_is_one_sentence(atoken, tmp_path, text, named):
    (tmp_path / "recipe.yaml").write_text(text)
    result = atoken("train", tmp_path / "recipe.yaml", "--out", tmp_path / "run", "--device", "cpu")
    assert result.exit_code == 2
    check_names(result.stderr, named)
    assert not (tmp_path / "run").exists()


def test_a_missing_recipe_and_an_impossible_folder(atoken, recipe, tmp_path):
    result = atoken("train", tmp_path / "gone.yaml", "--out", tmp_path / "run")
    check_names(result.stderr, tmp_path / "gone.yaml")
    result = atoken("train", recipe, "--out", recipe)
    assert result.exit_code == 2
    check_names(result.stderr, recipe)


def test_without_yaml_the_remedy_is_named(atoken, recipe, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    result = atoken("train", recipe, "--out", tmp_path / "run")
    assert result.exit_code == 2
    check_names(result.stderr, "pip install 'atoken[train]'")


@pytest.mark.slow
def test_an_error_is_said_once_on_a_machine_and_told_to_torchrun(atoken, recipe, tmp_path, monkeypatch):
    recipe.write_text("model: [")
    monkeypatch.setenv("LOCAL_RANK", "1")
    result = atoken("train", recipe, "--out", tmp_path / "run")
    assert (result.exit_code, result.output) == (2, "")
    monkeypatch.setenv("LOCAL_RANK", "0")
    recipe.write_text(RECIPE.format(path="nowhere"))
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    result = atoken("train", recipe, "--out", tmp_path / "run", "--device", "cpu")
    assert result.exit_code == 2
    told = json.loads((tmp_path / "error.json").read_text())["message"]
    assert told["extraInfo"]["py_callstack"] == told["message"]
    check_names(told["message"], "nowhere")
