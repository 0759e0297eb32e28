"""Classes of a recipe's own: the examples of docs/training.md, as they stand there."""

import re
import sys
from dataclasses import replace

import pytest
import torch

from atoken import load
from atoken.core.errors import ReadError
from atoken.core.hooks import HookConfig, load_hook
from atoken.data.feeds import build_feed
from atoken.tokenizer.config import PRESETS
from atoken.train.config import TaskConfig, read_config
from atoken.train.plan import check_data, plan
from atoken.train.trainer import train
from refusals import refused

from .conftest import SMALL, records

REST = "model: small\nsteps: 8\noptimizer: {warmup: 1, lr: 1.0e-3}\nparallel: {autocast: false}\nlog: {every: 1}\n"


@pytest.fixture
def page(request):
    return (request.config.rootpath / "docs/training.md").read_text()


@pytest.fixture
def recipe(page, tmp_path, monkeypatch):
    """The recipe of the page, beside the module that it names."""
    module, *_ = re.findall(r"```py\n(.*?)```", page, re.DOTALL)
    (keys,) = (text for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "mine:" in text)
    (tmp_path / "mine.py").write_text(module)
    (tmp_path / "recipe.yaml").write_text(REST + keys)
    monkeypatch.setitem(PRESETS, "small", SMALL)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "recipe.yaml"
    sys.modules.pop("mine", None)


def test_nothing_is_imported_without_permission(recipe):
    for key in ("task", "feed", "terms", "bottleneck"):
        text = {
            "task": 'tasks: [{task: "mine:Norms", ratio: 1, tokens: 64, crops: {path: x}}]\n',
            "feed": 'tasks: [{task: image-reconstruction, ratio: 1, tokens: 64, feed: {name: "mine:Gradients"}}]\n',
        }.get(key, "tasks: [{task: image-reconstruction, ratio: 1, tokens: 64, crops: {path: x}}]\n")
        text += {"terms": 'terms: [{name: "mine:Edges"}]\n', "bottleneck": 'bottleneck: {name: "mine:Prefix"}\n'}.get(
            key, ""
        )
        recipe.write_text(REST + text)
        with refused(recipe, "mine:", "--allow-commands", error=ReadError):
            read_config(recipe)
    assert "mine" not in sys.modules


@pytest.mark.slow
def test_the_examples_of_the_page_train(recipe, tmp_path):
    config = read_config(recipe, allow_commands=True)
    assert all(well for _, _, well in check_data(config))
    assert plan(config).flops > 0
    whole = train(config, tmp_path / "whole")
    lines = records(tmp_path / "whole")
    assert {name for line in lines for name in line if "/" in name} == {
        *(f"image-reconstruction/{term}" for term in ("l1", "kl", "Edges")),
        "mine:Norms/norm",
    }
    train(config, tmp_path / "parts", stop_after=5)  # the bottleneck draws the same numbers after a stop
    parts = train(config, tmp_path / "parts")
    assert all(torch.equal(tensor, parts.state_dict()[name]) for name, tensor in whole.state_dict().items())
    assert load(tmp_path / "whole/model").config == SMALL

    plain = train(replace(config, bottleneck=None), tmp_path / "plain")
    assert not torch.equal(plain.decoder.input_layer.weight, whole.decoder.input_layer.weight)


@pytest.mark.slow
def test_workers_prepare_the_batches_of_an_own_feed(recipe):
    task = read_config(recipe, allow_commands=True).tasks[0]
    there, here = build_feed(replace(task, workers=1), 0).batch(3), build_feed(task, 0).batch(3)
    assert torch.equal(there.packed.feats, here.packed.feats)


@pytest.mark.parametrize("name", ["mine", "mine:", "mine:Edges()", "../mine:Edges", "mine:Edges:x"])
def test_names_that_are_no_class_are_refused(name):
    with refused("module:Class"):
        HookConfig(name)


def test_a_class_that_is_not_there_is_one_sentence(recipe):
    for name in ("mine:Missing", "missing_module:Edges"):
        with refused(name, "PYTHONPATH"):
            load_hook(name)
    with refused("mine:Edges", "Task"):
        _ = TaskConfig("mine:Edges", tokens=9, feed=HookConfig("mine:Gradients")).kind


def test_only_tasks_of_your_own_take_options(config):
    with refused("image-reconstruction", "options"):
        replace(config.tasks[0], options={"length": 1})
