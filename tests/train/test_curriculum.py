"""Recipes, stages and whose turn it is."""

from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest

from atoken.cli.recipes import read_any
from atoken.data.config import CropsConfig
from atoken.data.mixing import turns
from atoken.train.config import TaskConfig, TrainConfig, read_config
from refusals import refused

TABLE_2 = {"image-reconstruction": 22.2, "video-text": 11.1, "video-reconstruction": 44.4, "3d-text": 11.1,
           "3d-reconstruction": 11.1}  # fmt: skip
CROPS = CropsConfig("x")


def stage_3(**changes):
    joined = TaskConfig("image-text", tokens=8, crops=CROPS, **changes)
    return [joined, *(TaskConfig(name, tokens=8, ratio=ratio, crops=CROPS) for name, ratio in TABLE_2.items())]


def test_the_round_robin_keeps_table_2_at_every_prefix():
    counts = Counter()
    for step, draws in enumerate(islice(turns(stage_3()), 900), start=1):
        assert draws[0].task == "image-text"
        assert len(draws) == 2
        counts.update(draw.task for draw in draws)
        for name, ratio in TABLE_2.items():
            assert abs(counts[name] - step * ratio / sum(TABLE_2.values())) < 1
    assert counts == {"image-text": 900, "image-reconstruction": 200, "video-text": 100, "video-reconstruction": 400,
                      "3d-text": 100, "3d-reconstruction": 100}  # fmt: skip


def test_turns_go_on_where_they_stood():
    whole = list(islice(turns(stage_3()), 60))
    assert list(islice(turns(stage_3(), start=23), 37)) == whole[23:]


def test_accumulation_shares_a_step_among_batches():
    draws = list(islice(turns(stage_3(accumulate=3)), 2))[1]
    assert [(draw.number, draw.share) for draw in draws if draw.task == "image-text"] == [(n, 1 / 3) for n in (3, 4, 5)]


GOOD = """
model: tiny
steps: 50
tasks: [{task: image-reconstruction, ratio: 1, tokens: 64, crops: {path: x}}]
optimizer: {warmup: 5}
"""


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("steps: 50", "", "steps minutes"),
        ("steps: 50", "steps: five", "'steps' five"),
        ("steps: 50", "steps: 50\nspeed: 9", "speed"),
        ("steps: 50", "steps: 4", "warmup 4"),
        ("steps: 50", "steps: 50\nstart: fast", "start fast linear discrete"),
        ("steps: 50", "steps: 50\nstart: linear\ninit_from: x", "linear init_from"),
        ("steps: 50", "steps: 50\nstart: discrete\ninit_from: x", "discrete quantize"),
        ("model: tiny", "model: huge", "huge nano"),
        ("path: x", "path: x, sides: [3]", "sides"),
        ("path: x", "path: x, sizes: [100]", "sizes 16"),
        ("path: x}", "path: x}, shards: {shards: [y]}", "crops shards"),
        ("crops: {path: x}", "shards: {shards: [y], resolution: [512, 64]}", "resolution 512"),
        ("crops: {path: x}", "shards: {shards: [y], frames: [1, 8]}", "frames 4"),
        ("crops: {path: x}", "cutouts: {path: x, size: 100}", "size 16"),
        ("image-reconstruction", "image-generation", "image-generation image-text"),
        ("ratio: 1, ", "", "ratio"),
        ("ratio: 1", "ratio: -1", "ratio image-reconstruction"),
        ("warmup: 5", "schedule: step", "step cosine linear"),
        ("optimizer:", "parallel: {strategy: tp}\noptimizer:", "tp ddp fsdp"),
        ("warmup: 5}", "warmup: 5, muon_lr: 0.02}\nparallel: {strategy: fsdp}", "muon ddp"),
        ("model: tiny", "model: [", "YAML"),
        (GOOD, "words", "str"),
    ],
)
def test_stages_that_do_not_fit_are_one_sentence(tmp_path, old, new, named):
    path = tmp_path / "run.yaml"
    path.write_text(GOOD)
    read_config(path)
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with refused("run.yaml", *named.split()):
        read_config(path)


def test_every_recipe_reads(request):
    recipes = sorted((request.config.rootpath / "recipes").rglob("*.yaml"))
    assert recipes
    for path in recipes:
        recipe = read_any(path)
        if isinstance(recipe, TrainConfig):
            assert recipe.model_config.name == recipe.model


def test_a_task_may_stand_there_once(config):
    with refused("once"):
        replace(config, tasks=config.tasks * 2)
