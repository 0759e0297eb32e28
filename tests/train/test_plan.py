"""The dry run's arithmetic."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from atoken import PRESETS, AToken, Packed
from atoken.data.config import AssetsConfig
from atoken.engine import timing
from atoken.engine.flops import H100_PEAK
from atoken.nn.packed import dense_coords
from atoken.train.config import TaskConfig, read_config
from atoken.train.flops import training_flops
from atoken.train.plan import STATE_BYTES, plan
from atoken.train.trainer import TokenizerSpec, train
from refusals import check_names, refused

from .conftest import records


def test_flops_are_those_that_pytorch_counts():
    model = AToken(PRESETS["tiny"])
    packed = Packed.cat([(torch.randn(20, 768, requires_grad=True), dense_coords((1, 4, 5, 1)))] * 3)
    with FlopCounterMode(display=False) as counter:
        latents = model.encode_packed(packed, pool=False).posterior.mode()
        model.decode_packed(Packed(latents, packed.coords), features=768).sum().backward()
    attention = 3 * 2 * (2 * 3 * 20**2 * 64) * 4  # which PyTorch does not count on the CPU
    assert counter.get_total_flops() == training_flops(model.config, [20] * 3, 768) - attention


def test_a_stage_costs_what_its_tasks_do(config):
    one = plan(config)
    assert one.parameters == sum(p.numel() for p in AToken(config.model_config).parameters())
    assert one.state_bytes == STATE_BYTES * one.parameters
    assert one.tokens == 64
    adamw, sharded = replace(config.optimizer, muon_lr=None), replace(config.parallel, strategy="fsdp")
    many = plan(replace(config, ranks=4, optimizer=adamw, parallel=sharded))
    assert many.flops == pytest.approx(4 * one.flops)
    assert many.state_bytes == one.state_bytes // 4
    assert one.hours(1000, 0.5) == pytest.approx(one.flops * 1000 / (0.5 * H100_PEAK) / 3600)


def test_a_head_alone_costs_no_decoding(config):
    assets = AssetsConfig("none", voxels=32)
    alone = TaskConfig("3d-gaussians", tokens=600, ratio=1.0, assets=assets)
    found = plan(replace(config, tasks=(alone,), frozen=("encoder", "proj", "decoder"), start=None))
    assert (found.tokens, found.flops, found.activation_bytes) == (600, 0, 0)


def test_the_paper_s_stages_follow_table_2(request):
    ratios = {
        stage: [
            task.ratio for task in read_config(request.config.rootpath / f"recipes/paper/so400m-{stage}.yaml").tasks
        ]
        for stage in ("stage1", "stage2", "stage3", "stage4")
    }
    assert ratios["stage1"] == [None, 100]
    assert ratios["stage2"] == [None, 22.2, 11.1, 66.6]
    assert ratios["stage3"] == ratios["stage4"] == [None, 22.2, 11.1, 44.4, 11.1, 11.1]


@pytest.mark.slow
def test_the_dry_run_prints_costs_and_names_missing_data(atoken, request, tmp_path):
    recipe = request.config.rootpath / "recipes/paper/base-stage1.yaml"
    result = atoken("train", recipe, "--dry-run")
    assert result.exit_code == 2
    assert "base-stage1" in result.stdout
    assert "200,000" in result.stdout
    check_names(result.stderr, recipe, "image-text", "data/images")


def test_training_takes_one_recipe_and_a_folder(atoken, tmp_path):
    result = atoken("train", tmp_path / "a.yaml", tmp_path / "b.yaml", "--out", tmp_path)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    check_names(result.stderr, "--dry-run")


def test_cost_only_looks_at_no_data_and_times_nothing(atoken, request, monkeypatch):
    monkeypatch.setattr("atoken.cli.plan.check_data", None)
    monkeypatch.setattr("atoken.cli.plan.seconds_per_step", None)
    recipes = [request.config.rootpath / f"recipes/paper/base-stage{n}.yaml" for n in (1, 2)]
    result = atoken("train", *recipes, "--dry-run", "--cost-only")
    assert result.exit_code == 0, result.output
    check_names("".join(result.stdout.split("\n")[:3])[:500], "base-stage1")
    alone = atoken("train", recipes[0], "--out", "x", "--cost-only")
    assert alone.exit_code == 2
    check_names(alone.stderr, "--cost-only", "--dry-run")


RECIPE = """
model: tiny
LENGTH
tasks: [{task: image-reconstruction, ratio: 1, tokens: 8, crops: {path: DATA, sizes: [32]}}]
optimizer: {warmup: 1}
parallel: {autocast: false}
"""


@pytest.mark.slow
@pytest.mark.parametrize(("length", "steps"), [("steps: 3600", "3,600"), ("minutes: 2", "240")])
def test_the_dry_run_times_a_step_here_and_says_the_hours(atoken, folder, tmp_path, monkeypatch, length, steps):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace("LENGTH", length).replace("DATA", str(folder)))
    monkeypatch.setattr("atoken.cli.plan.seconds_per_step", lambda spec, device: 0.5)
    result = atoken("train", path, "--dry-run", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert {"recipe", steps, "0.5"} <= set(result.stdout.split())
    assert f"{0.5 * int(steps.replace(',', '')) / 3600:.2f}" in result.stdout


def test_a_step_is_timed_with_all_that_it_does(config, monkeypatch):
    asked = []
    monkeypatch.setattr(timing, "backward", lambda module, task, *rest: asked.append(task))
    ticks = iter(range(100))
    monkeypatch.setattr(timing, "_now", lambda kind: float(next(ticks)))
    double = replace(config.tasks[0], accumulate=3)
    assert timing.seconds_per_step(TokenizerSpec(replace(config, tasks=(double,))), "cpu") == 3 + 1
    assert asked == ["image-reconstruction"] * 2


@pytest.mark.slow
def test_minutes_become_steps_once(config, tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "seconds_per_step", lambda spec, device: 15.0)
    timed = replace(config, steps=0, minutes=1.0, optimizer=replace(config.optimizer, warmup=1, decay=1))
    assert train(timed, tmp_path / "run", stop_after=2) is None
    monkeypatch.setattr(timing, "seconds_per_step", None)  # a continued run keeps its schedule
    assert train(timed, tmp_path / "run") is not None
    assert max(record["step"] for record in records(tmp_path / "run")) == 4
    with refused("minutes.json", "--out"):
        train(replace(timed, minutes=2.0), tmp_path / "run")
    (tmp_path / "run/minutes.json").write_text("[")
    with refused("minutes.json", "delete"):
        train(timed, tmp_path / "run")


def test_minutes_too_short_for_warm_up_and_decay_are_refused(config, tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "seconds_per_step", lambda spec, device: 30.0)
    with refused("warmup", "4", "2"):
        train(replace(config, steps=0, minutes=1.0), tmp_path / "run")
