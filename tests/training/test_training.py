"""The first trainer: starts at the linear optimum, resumes exactly, and follows its schedule."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from atoken import PRESETS, AToken, Packed, load
from atoken.config import PRESETS as TABLE
from atoken.objectives.l1 import l1
from atoken.objectives.log_mse import log_mse
from atoken.tokens import dense_coords
from atoken.training.config import DataConfig, LossConfig, OptimizerConfig, TrainConfig, read_config
from atoken.training.data import Crops
from atoken.training.linear_start import linear_start, principal_directions
from atoken.training.optimizer import build_optimizers, rate, update_average
from atoken.training.trainer import train

SMALL = replace(PRESETS["tiny"], name="small", latent_norm=False, output_norm=False)


@pytest.fixture
def folder(tmp_path):
    """A collection of three pictures with some structure, the last one too small for a crop of 64."""
    rng = np.random.default_rng(0)
    index, offset, parts = [], 0, []
    for height, width, weight in ((80, 96, 1.0), (64, 64, 2.0), (48, 120, 1.0)):
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3)).repeat(8, 0).repeat(8, 1)
        picture = np.clip(coarse + rng.normal(0, 9, (height, width, 3)), 0, 255).astype(np.uint8)
        index.append({"offset": offset, "height": height, "width": width, "weight": weight})
        parts.append(picture.tobytes())
        offset += picture.size
    (tmp_path / "train.bin").write_bytes(b"".join(parts))
    (tmp_path / "train.json").write_text(json.dumps(index))
    return tmp_path


@pytest.fixture
def config(folder, monkeypatch):
    monkeypatch.setitem(TABLE, "small", SMALL)
    return TrainConfig(
        "small",
        steps=6,
        tokens_per_step=64,
        data=DataConfig(str(folder), (32, 64), (0.5, 0.5)),
        optimizer=OptimizerConfig(warmup=2, decay=2),
        log_every=2,
        checkpoint_every=100,
    )


# Linear start


def test_the_linear_start_is_the_best_projection():
    torch.manual_seed(0)
    patches = torch.randn(1000, 768) * (0.97 ** torch.arange(768)) + 0.2
    model = AToken(SMALL).eval()
    linear_start(model, patches)
    coords = torch.cat([torch.zeros(32, 1, dtype=torch.int32), dense_coords((1, 4, 8, 1))], 1)
    with torch.no_grad():
        latents = model.encode_packed(Packed(patches[:32], coords)).posterior.mode()
        back = model.decode_packed(Packed(latents, coords), features=768)
    directions = torch.linalg.svd(patches, full_matrices=False).Vh[:48]
    torch.testing.assert_close(back, patches[:32] @ directions.T @ directions, atol=2e-3, rtol=1e-3)
    whole = patches @ directions.T
    torch.testing.assert_close(latents.abs(), (whole[:32] / whole.square().mean(0).sqrt()).abs(), atol=2e-3, rtol=1e-2)


def test_principal_directions_are_orthonormal_and_sorted():
    patches = torch.randn(500, 20) * torch.arange(1, 21)
    directions, deviation = principal_directions(patches, 5)
    torch.testing.assert_close(directions @ directions.T, torch.eye(5), atol=1e-5, rtol=0)
    torch.testing.assert_close((patches @ directions.T).square().mean(0).sqrt(), deviation)
    assert (deviation[:-1] >= deviation[1:]).all()


def test_a_linear_start_embeds_the_mean_of_the_tokens():
    model = AToken(SMALL).eval()
    linear_start(model, torch.randn(200, 768))
    out = model.encode_packed(Packed.cat([(torch.randn(6, 768), dense_coords((1, 2, 3, 1)))]))
    expected = torch.nn.functional.normalize(out.hidden.mean(0), dim=-1)
    torch.testing.assert_close(out.pooled[0], expected, atol=1e-5, rtol=1e-4)


def test_a_model_with_final_norms_cannot_start_so():
    with pytest.raises(ValueError, match="without final norms"):
        linear_start(AToken(PRESETS["tiny"]), torch.zeros(1, 768))


# Losses


def test_losses_by_hand():
    target = torch.zeros(3, 2)
    prediction = torch.tensor([[0.5, -0.5], [0.1, 0.3], [1.0, 0.0]])
    assert l1(prediction, target).item() == pytest.approx(2.4 / 6)
    sample = torch.tensor([0, 0, 1])
    first, second = (0.25 + (0.01 + 0.09) / 2) / 2, 0.5
    assert log_mse(prediction, target, sample).item() == pytest.approx((math.log(first) + math.log(second)) / 2)
    assert log_mse(target, target, sample).item() == pytest.approx(math.log(1e-6))


def test_the_log_of_the_error_is_psnr_up_to_a_line():
    torch.manual_seed(0)
    target = torch.rand(4, 30)
    prediction = target + 0.1 * torch.randn(4, 30)
    mse = (prediction - target).square().mean(-1)
    psnr = (10 * torch.log10(4 / mse)).mean()  # the range is two wide
    expected = 10 * math.log10(4) - 10 / math.log(10) * log_mse(prediction, target, torch.arange(4))
    torch.testing.assert_close(psnr, expected)


# Schedule, average, optimizers


def test_the_schedule_by_value():
    config = OptimizerConfig(warmup=4, decay=5)
    values = [rate(step, 20, config) for step in range(20)]
    assert values[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert values[14:] == pytest.approx([1.0, 1.0, 0.8, 0.6, 0.4, 0.2])
    assert rate(19, 20, OptimizerConfig(warmup=0, decay=0)) == 1.0


def test_the_average_is_short_at_first_and_long_later():
    average, current = [torch.zeros(2)], [torch.ones(2)]
    update_average(average, current, 0.999, 0)
    torch.testing.assert_close(average[0], torch.full((2,), 0.9))
    average = [torch.zeros(2)]
    update_average(average, current, 0.999, 10**6)
    torch.testing.assert_close(average[0], torch.full((2,), 0.001))


def test_each_weight_has_one_optimizer():
    model = AToken(SMALL)
    optimizers = build_optimizers(model, OptimizerConfig())
    sets = {name: {id(p) for group in o.param_groups for p in group["params"]} for name, o in optimizers.items()}
    assert not sets["muon"] & sets["adamw"]
    assert sets["muon"] | sets["adamw"] == {id(p) for p in model.parameters()}
    muon = {name for name, p in model.named_parameters() if id(p) in sets["muon"]}
    assert muon == {
        f"{side}.blocks.{i}.{part}.weight"
        for side in ("encoder", "decoder")
        for i in range(2)
        for part in ("attn.to_qkv", "attn.to_out", "mlp.mlp.0", "mlp.mlp.2")
    }


# Data


def test_batches_are_the_same_in_every_run_and_differ_between_steps(config):
    data, again = (Crops(config.data, 64, seed=0) for _ in range(2))
    batches = [data.batch(step) for step in range(8)]
    for step in (5, 0, 3):
        assert torch.equal(again.batch(step).feats, batches[step].feats)
    assert len({float(batch.feats.sum()) for batch in batches}) == 8
    assert {tuple(batch.lengths) for batch in batches} == {(4,) * 16, (16,) * 4}
    assert all(batch.feats.abs().max() <= 1 for batch in batches)
    assert not torch.equal(Crops(config.data, 64, seed=1).batch(0).feats, batches[0].feats)


def test_data_that_is_missing_or_too_small(config, tmp_path):
    with pytest.raises(FileNotFoundError, match="no training data"):
        Crops(DataConfig(str(tmp_path / "none")), 64, 0)
    with pytest.raises(ValueError, match=r"no picture in .* is large enough for crops of 112 pixels"):
        Crops(replace(config.data, crop_sizes=(112,), crop_shares=(1.0,)), 64, 0)


# The loop


def test_a_resumed_run_is_the_uninterrupted_one(config, tmp_path):
    whole = train(config, tmp_path / "whole")
    train(config, tmp_path / "parts", stop_after=1)
    train(config, tmp_path / "parts", stop_after=4)
    parts = train(config, tmp_path / "parts")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name
    ends = [torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("whole", "parts")]
    assert ends[0]["step"] == ends[1]["step"] == 6
    for name, tensor in ends[0]["model"].items():
        assert torch.equal(tensor, ends[1]["model"][name]), name
    logs = [
        {record["step"]: record["l1"] for record in map(json.loads, (tmp_path / run / "log.jsonl").open())}
        for run in ("whole", "parts")
    ]
    assert logs[0] == logs[1]
    assert load(tmp_path / "whole/model").config == SMALL


def test_training_lowers_the_loss(config, tmp_path):
    train(replace(config, steps=25, linear_start=False, log_every=5, autocast=False), tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run/log.jsonl").open()]
    assert records[-1]["l1"] < 0.95 * records[0]["l1"]
    assert set(records[0]) == {"step", "rate", "l1", "log_mse", "kl", "norm", "tokens_per_s"}


def test_a_checkpoint_of_another_model_is_refused(config, tmp_path):
    train(config, tmp_path / "run", stop_after=1)
    with pytest.raises(ValueError, match="is a checkpoint of 'small', not of 'nano'"):
        train(replace(config, model="nano", linear_start=False), tmp_path / "run")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: tiny\nsteps: 5\n", "key 'tokens_per_step' is missing"),
        ("model: tiny\nsteps: five\ntokens_per_step: 4\ndata: {path: x}\n", "key 'steps': expected int"),
        ("model: tiny\nsteps: 500\ntokens_per_step: 4\ndata: {path: x, sizes: [3]}\n", "unknown key 'sizes'"),
        ("model: huge\nsteps: 500\ntokens_per_step: 4\ndata: {path: x}\n", "no preset 'huge'"),
        ("model: tiny\nsteps: 5\ntokens_per_step: 4\ndata: {path: x}\n", "longer than the run"),
        ("model: tiny\nsteps: 500\ntokens_per_step: 4\ndata: {path: x, crop_sizes: [100]}\n", "multiples of 16"),
        ("model: [\n", "is not YAML"),
        ("words", "expected a table"),
    ],
)
def test_recipes_that_do_not_fit(tmp_path, text, words):
    pytest.importorskip("yaml")
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r".") as caught:
        read_config(path)
    assert words in str(caught.value)


def test_the_recipe_of_nano_reads(request):
    pytest.importorskip("yaml")
    config = read_config(request.config.rootpath / "recipes/nano/images.yaml")
    assert config.model == "nano"
    assert isinstance(config.loss, LossConfig)
