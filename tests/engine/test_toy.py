"""The engine trains what is no tokenizer: to a small loss, with a stop in between to the same weights."""

import json
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from atoken.core.errors import ReadError
from atoken.engine.loop import run
from atoken.engine.recipe import read_recipe
from atoken.engine.timing import seconds_per_step
from refusals import refused

from .toy import CONFIG, Toy, ToyConfig


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from end to end: its folder, and what it exports."""
    out = tmp_path_factory.mktemp("toy")
    return out, run(Toy(), out)


@pytest.mark.slow
def test_it_learns_and_exports(whole):
    out, state = whole
    losses = [json.loads(line)["sine/mse"] for line in (out / "log.jsonl").open()]
    assert losses[-1] < 1e-3  # of 0.5, the mean square of a sine
    assert losses[-1] < 0.05 * losses[0]
    exported = load_file(out / "model/model.safetensors")
    assert all(torch.equal(exported[name], tensor) for name, tensor in state.items())


@pytest.mark.slow
def test_stopped_and_resumed_it_ends_with_the_same_weights(whole, tmp_path):
    for stop in (1, 130):
        assert run(Toy(), tmp_path, stop_after=stop) is None
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-0000100", "step-0000130"]
    resumed = run(Toy(), tmp_path)
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole[1].items())


def test_random_numbers_of_the_caller_stay(tmp_path):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    run(Toy(), tmp_path, stop_after=2)
    seconds_per_step(Toy(), "cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_term_without_a_weight_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Toy, "weights", lambda self, module, task: {"mse": 1.0})
    with refused("size", "mse"):
        run(Toy(), tmp_path, stop_after=1)


RECIPE = "tasks: [{task: sine, ratio: 1}]\nsteps: 20\noptimizer: {warmup: 2}\nwidth: 8\n"


def test_its_recipe_is_yaml_whose_keys_are_checked(tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE)
    assert read_recipe(ToyConfig, path) == ToyConfig(
        tasks=CONFIG.tasks, steps=20, optimizer=replace(ToyConfig(tasks=CONFIG.tasks, steps=9999).optimizer, warmup=2),
        width=8,
    )  # fmt: skip
    path.write_text(RECIPE + "height: 3\n")
    with refused(path, "height", "width", error=ReadError):
        read_recipe(ToyConfig, path)


def test_the_page_shows_this_toy(request):
    page = (request.config.rootpath / "docs/training.md").read_text()
    (shown,) = (text for text in re.findall(r"```py\n(.*?)```", page, re.DOTALL) if "class Toy(" in text)
    code = iter((request.config.rootpath / "tests/engine/toy.py").read_text().splitlines())
    missing = [line for line in shown.splitlines() if line and line not in code]  # in this order
    assert not missing
