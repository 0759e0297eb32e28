"""Groups, schedule, average and Muon, by value."""

import copy

import pytest
import torch
from torch import nn

from atoken import AToken
from atoken.engine import muon
from atoken.engine.config import OptimizerConfig
from atoken.engine.ema import EMA
from atoken.engine.muon import Muon, orthogonalize
from atoken.engine.optimizer import build_optimizers, default_groups, lr_schedule, set_lr
from atoken.nn.block import Block
from atoken.train.config import TokenizerOptimizerConfig
from atoken.train.trainer import parameter_groups
from train.conftest import SMALL


def build(model, config):
    return build_optimizers(parameter_groups(model, config), config)


def names(optimizers, model):
    of = {parameter: name for name, parameter in model.named_parameters()}
    return {
        (kind, group["name"]): {of[parameter] for parameter in group["params"]}
        for kind, optimizer in optimizers.items()
        for group in optimizer.param_groups
    }


def test_each_weight_has_one_group_and_groups_have_names():
    model = AToken(SMALL)
    groups = names(build(model, TokenizerOptimizerConfig(muon_lr=0.02)), model)
    assert sum(len(group) for group in groups.values()) == len(list(model.parameters()))
    assert groups["muon", "encoder"] | groups["muon", "rest"] == {
        f"{side}.blocks.{i}.{part}.weight"
        for side in ("encoder", "decoder")
        for i in range(2)
        for part in ("attn.to_qkv", "attn.to_out", "mlp.mlp.0", "mlp.mlp.2")
    }
    assert all(name.startswith("encoder.") for name in groups["adamw", "encoder"] | groups["adamw", "encoder/plain"])
    assert {"proj.weight", "decoder.out_layer.weight", "decoder.input_layer.weight"} <= groups["adamw", "rest"]
    assert "encoder.pos_embedder.position_embedding.weight" in groups["adamw", "encoder/plain"]
    assert set(names(build(model, TokenizerOptimizerConfig()), model)) == {
        ("adamw", name) for name in ("encoder", "encoder/plain", "rest", "rest/plain")
    }


def test_the_encoder_learns_at_a_tenth_and_only_matrices_decay():
    model = AToken(SMALL)
    model.encoder.head.requires_grad_(False)
    config = TokenizerOptimizerConfig(lr=3e-4)
    optimizers = build(model, config)
    set_lr(optimizers, config, 0.5)
    groups = {group["name"]: group for group in optimizers["adamw"].param_groups}
    assert [groups[name]["lr"] for name in ("encoder", "encoder/plain", "rest")] == pytest.approx(
        [1.5e-5, 1.5e-5, 1.5e-4]
    )
    assert [groups[name]["weight_decay"] for name in ("encoder", "encoder/plain", "rest/plain")] == [0.1, 0.0, 0.0]
    assert groups["rest"]["betas"] == (0.9, 0.95)
    frozen = set(model.encoder.head.parameters())
    assert not frozen & {parameter for group in groups.values() for parameter in group["params"]}


def test_the_paper_s_schedule_by_value():
    config = OptimizerConfig()
    rates = {step: 3e-4 * lr_schedule(step, 200_000, config) for step in (0, 999, 1999, 2000, 101_000, 199_999)}
    assert rates[0] == pytest.approx(1.5e-7)
    assert rates[999] == pytest.approx(1.5e-4)
    assert rates[1999] == rates[2000] == pytest.approx(3e-4)
    assert rates[101_000] == pytest.approx((3e-4 + 3e-5) / 2)
    assert rates[199_999] == pytest.approx(3e-5, rel=1e-3)


def test_the_linear_schedule_by_value():
    config = OptimizerConfig(warmup=4, schedule="linear", decay=5, final=0.0)
    values = [lr_schedule(step, 20, config) for step in range(20)]
    assert values[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert values[14:] == pytest.approx([1.0, 1.0, 0.8, 0.6, 0.4, 0.2])
    assert lr_schedule(19, 20, OptimizerConfig(warmup=0, schedule="linear", decay=0)) == 1.0


def test_the_average_is_short_at_first_and_long_later():
    module = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(module.weight)
    average = EMA(module, 0.999)
    nn.init.ones_(module.weight)
    average.update(0)
    torch.testing.assert_close(average.values["weight"], torch.full((1, 2), 0.9))
    average.values["weight"].zero_()
    average.update(10**6)
    torch.testing.assert_close(average.values["weight"], torch.full((1, 2), 0.001))
    with average.applied():
        torch.testing.assert_close(module.weight.detach(), torch.full((1, 2), 0.001))
    assert module.weight.tolist() == [[1.0, 1.0]]


def test_muon_with_torch_s_polynomial_is_torch_s_muon(monkeypatch):
    monkeypatch.setattr(muon, "QUINTICS", ((3.4445, -4.7750, 2.0315),) * 5)
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(*shape)) for shape in ((24, 8), (8, 8), (24, 8), (8, 24))]
    theirs = copy.deepcopy(ours)
    optimizers = Muon(ours, 0.02, weight_decay=0.1), torch.optim.Muon(theirs, 0.02, weight_decay=0.1)
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        # bf16 products: five polynomials of entries below 1 differ by some 2^-8 each, times lr 0.02, three times over.
        torch.testing.assert_close(a, b, atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", [(24, 24), (24, 60), (60, 24)])
def test_singular_values_come_to_within_a_fifth_of_one(shape):
    torch.manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(side, 24))[0] for side in shape)
    singular = torch.logspace(-2, 0, 24)  # of their norm, 0.004 to 0.4
    flat = torch.linalg.svdvals(orthogonalize((u * singular) @ v.T[None]).float())
    assert flat.min() > 0.7
    assert flat.max() < 1.3


def test_a_matrix_of_rank_one_is_not_blown_up():
    torch.manual_seed(0)
    single = torch.randn(200, 30, 1) @ torch.randn(200, 1, 50)
    largest = torch.linalg.svdvals(orthogonalize(single).float())
    assert 0.7 < largest[:, 0].min() <= largest[:, 0].max() < 1.3
    assert largest[:, 1:].max() < 1.3


def test_without_groups_of_its_own_a_module_has_matrices_that_decay_and_blocks_for_muon():
    module = nn.Sequential(Block(32, 2, 64, decoder=False), nn.Linear(32, 4), nn.LayerNorm(4))
    module[2].bias.requires_grad_(False)
    config = OptimizerConfig(muon_lr=0.01)
    groups = default_groups(module, config)
    found = names(build_optimizers(groups, config), module)
    assert found["muon", "rest"] == {
        f"0.{part}.weight" for part in ("attn.to_qkv", "attn.to_out", "mlp.mlp.0", "mlp.mlp.2")
    }
    assert found["adamw", "rest"] == {"1.weight"}
    assert {"1.bias", "2.weight", "0.norm1.weight"} <= found["adamw", "rest/plain"]
    assert "2.bias" not in set().union(*found.values())
    assert {group.name: group.decay for group in groups} == {"rest": True, "rest/plain": False}
