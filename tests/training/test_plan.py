"""The dry run's arithmetic."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from atoken import PRESETS, AToken, Packed
from atoken.tokens import dense_coords
from atoken.training.config import AssetsConfig, TaskConfig, read_config
from atoken.training.flops import H100_PEAK, training_flops
from atoken.training.plan import STATE_BYTES, plan


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


def test_the_dry_run_prints_costs_and_names_missing_data(atoken, request, tmp_path):
    recipe = request.config.rootpath / "recipes/paper/base-stage1.yaml"
    result = atoken("train", recipe, "--dry-run")
    assert result.exit_code == 2
    assert "base-stage1" in result.stdout
    assert "200,000" in result.stdout
    assert result.stderr.startswith(f"error: {recipe}, image-text: no shards at data/images")


def test_training_takes_one_recipe_and_a_folder(atoken, tmp_path):
    result = atoken("train", tmp_path / "a.yaml", tmp_path / "b.yaml", "--out", tmp_path)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "several recipes go with --dry-run" in result.stderr
