"""Recipes, stages and whose turn it is."""

from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest

from atoken.training.config import CropsConfig, TaskConfig, read_config
from atoken.training.curriculum import turns

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
    ("old", "new", "words"),
    [
        ("steps: 50", "", "key 'steps' is missing"),
        ("steps: 50", "steps: five", "key 'steps': expected int"),
        ("steps: 50", "steps: 50\nspeed: 9", "unknown key 'speed'"),
        ("steps: 50", "steps: 4", "longer than the run"),
        ("steps: 50", "steps: 50\nstart: fast", "start is 'fast'"),
        ("steps: 50", "steps: 50\nstart: linear\ninit_from: x", "takes no init_from"),
        ("steps: 50", "steps: 50\nstart: discrete\ninit_from: x", "quantize: true"),
        ("model: tiny", "model: huge", "no preset 'huge'"),
        ("path: x", "path: x, sides: [3]", "unknown key 'sides'"),
        ("path: x", "path: x, sizes: [100]", "multiples of 16"),
        ("path: x}", "path: x}, shards: {shards: [y]}", "one of crops, clips, cutouts, assets and shards"),
        ("crops: {path: x}", "shards: {shards: [y], resolution: [512, 64]}", "ascending range"),
        ("crops: {path: x}", "shards: {shards: [y], frames: [1, 8]}", "frames at 4 or more"),
        ("crops: {path: x}", "cutouts: {path: x, size: 100}", "a multiple of 16"),
        ("image-reconstruction", "image-generation", "no task 'image-generation'"),
        ("ratio: 1, ", "", "at least one task needs a ratio"),
        ("ratio: 1", "ratio: -1", "must be positive"),
        ("warmup: 5", "schedule: step", "give cosine or linear"),
        ("optimizer:", "parallel: {strategy: tp}\noptimizer:", "give ddp or fsdp"),
        ("warmup: 5}", "warmup: 5, muon_lr: 0.02}\nparallel: {strategy: fsdp}", "muon needs whole matrices"),
        ("model: tiny", "model: [", "is not YAML"),
        (GOOD, "words", "expected a table"),
    ],
)
def test_stages_that_do_not_fit_are_one_sentence(tmp_path, old, new, words):
    path = tmp_path / "run.yaml"
    path.write_text(GOOD)
    read_config(path)
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ValueError, match=r".") as caught:
        read_config(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_recipe_reads(request):
    recipes = sorted((request.config.rootpath / "recipes").rglob("*.yaml"))
    assert recipes
    for path in recipes:
        config = read_config(path)
        assert config.model_config.name == config.model


def test_a_task_may_stand_there_once(config):
    with pytest.raises(ValueError, match="once"):
        replace(config, tasks=config.tasks * 2)
