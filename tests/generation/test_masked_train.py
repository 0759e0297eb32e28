"""A masked generator's training on the engine: from shards of codes to a generator, resumed, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from flow_parts import PLACES, told
from masked_parts import LENGTHS, small, some_codes
from safetensors.torch import load_file
from torch._dynamo.testing import CompileCounter
from torch.testing import assert_close

import atoken
from atoken import ShardWriter, TokenSample
from atoken.engine.config import LogConfig, OptimizerConfig, ParallelConfig
from atoken.engine.ranks import Ranks, parallelize
from atoken.generation.masked.config import SIZES, MaskedObjectiveConfig, MaskedSampleConfig
from atoken.generation.masked.recipe import SEEN, MaskedRecipe
from atoken.generation.masked.train import MaskedSpec, train
from atoken.generation.plan import check_data
from atoken.generation.recipe import PreviewConfig, TokensConfig
from refusals import refused


@pytest.fixture(scope="module")
def shards(model, tmp_path_factory) -> Path:
    """Eight pictures of two sizes with labels and captions, as codes."""
    folder = tmp_path_factory.mktemp("codes")
    rng = np.random.default_rng(0)
    with ShardWriter(folder / "codes-000000.atoks") as writer:
        for i in range(8):
            picture = rng.integers(0, 256, (16 * (1 + i % 2), 32, 3), dtype=np.uint8)
            tokens = model.encode(picture, kind="discrete")
            writer.write(TokenSample(key=str(i), tokens=tokens, label=i % 3, captions=(f"picture {i}",)))
    return folder


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch, letters):
    monkeypatch.setitem(SIZES, "nano", (1, 1, 32, 2, 48, 1, 16, 2, 24, 2))


def recipe(shards: Path, **changes: object) -> MaskedRecipe:
    given = {
        "generator": "masked",
        "name": "trial",
        "size": "nano",
        "picture": (16, 32),
        "steps": 4,
        "tasks": (TokensConfig("draw", 1.0, tokens=12, shards=(str(shards),)),),
        "optimizer": OptimizerConfig(lr=1e-3, warmup=2, ema=0.9),
        "parallel": ParallelConfig(autocast=False),
        "log": LogConfig(every=1, checkpoint_every=2, tensorboard=False),
        "sampling": MaskedSampleConfig(steps=2),
    }
    return MaskedRecipe(**(given | changes))


@pytest.mark.slow
@pytest.mark.parametrize("order", ["random", "raster"])
def test_a_run_ends_in_a_generator_that_draws(order, model, shards, tmp_path):
    model.save_pretrained(tmp_path / "tokenizer")
    previews = PreviewConfig(labels=(1, 2), tokenizer=str(tmp_path / "tokenizer"))
    config = recipe(shards, classes=3, order=order, previews=previews)
    result = train(config, tmp_path / "run")
    gen = atoken.load_generator(tmp_path / "run" / "model", tokenizer=model)
    assert gen.config == result
    assert gen(class_labels=1, guidance=2.0, seeds=0)[0].shape == (16, 32, 3)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    steps = [line for line in log if "draw/cross_entropy_0" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    assert abs(sum(steps[0][f"draw/cross_entropy_{g}"] for g in range(8)) - np.log(4096)) < 1e-4  # of a new net
    assert len(list((tmp_path / "run" / "pictures").iterdir())) == 3


@pytest.mark.slow
def test_a_continued_run_is_the_uninterrupted_one(shards, tmp_path):
    config = recipe(shards, text_tower="letters")
    train(config, tmp_path / "whole")
    assert train(config, tmp_path / "parts", stop_after=2) is None
    train(config, tmp_path / "parts")
    whole, parts = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    with refused("net"):
        train(replace(config, order="raster"), tmp_path / "parts")


def test_batches_hold_codes_and_what_the_samples_are_told(model, shards):
    spec = MaskedSpec(recipe(shards, text_tower="letters", classes=3))
    batch = spec.build_feed(spec.config.tasks[0], Ranks()).batch(0)
    assert batch.codes.dtype == torch.int64
    assert batch.codes.shape == (sum(batch.lengths), 8)
    assert set(batch.lengths) <= {2, 4}
    assert batch.condition.text[1] == [len("picture 0")] * len(batch.lengths)
    assert spec.generator_config.net.levels == model.config.fsq_levels
    learner = spec.start(Ranks())
    terms = learner("draw", batch)
    assert all(abs(term.item() - np.log(4096)) < 1e-5 for term in terms.values())
    assert set(spec.weights(learner, "draw")) == set(terms)
    assert [(task, well) for task, _, well in check_data(spec)] == [("draw", True)]


def test_parameters_all_have_an_optimizer(shards):
    optimizer = OptimizerConfig(muon_lr=0.02, warmup=2)
    spec = MaskedSpec(recipe(shards, text_tower="letters", classes=3, optimizer=optimizer))
    learner = spec.start(Ranks())
    groups = spec.parameter_groups(learner)
    found = [id(p) for group in groups for p in group.parameters]
    assert sorted(found) == sorted(id(p) for p in learner.parameters())
    names = {id(p): name.removeprefix("objective.net.") for name, p in learner.named_parameters()}
    plain = {
        names[id(p)] for group in groups if not group.decay and group.optimizer == "adamw" for p in group.parameters
    }
    assert {"label", "start", "unknown", "head.group", "head.level"} <= plain
    assert len(spec.blocks(learner)) == 3


@pytest.mark.parametrize("order", ["random", "raster"])
def test_all_parameters_have_a_gradient_whatever_is_hidden_and_dropped(order, shards):
    objective = MaskedObjectiveConfig(drop=0.999, mask_least=0.999)  # all tokens, and all words and labels
    spec = MaskedSpec(recipe(shards, text_tower="letters", classes=3, order=order, objective=objective))
    learner = spec.start(Ranks())
    terms = learner("draw", spec.build_feed(spec.config.tasks[0], Ranks()).batch(0))
    sum(terms.values()).backward()
    assert [name for name, p in learner.named_parameters() if p.grad is None] == []


@pytest.mark.slow
@pytest.mark.parametrize("switch", ["checkpointing", "compile", "autocast"])
def test_blocks_that_are_recomputed_compiled_or_rounded_learn_the_same(switch, shards, monkeypatch):
    counter = CompileCounter()  # hands the traced graphs back as they are
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    torch._dynamo.reset()

    def gradients(**switches: bool) -> dict[str, torch.Tensor]:
        parallel = ParallelConfig(**{"autocast": False} | switches)
        spec = MaskedSpec(recipe(shards, classes=3, parallel=parallel))
        torch.manual_seed(0)
        learner = spec.start(Ranks())
        with torch.no_grad():
            for output in learner.objective.net.head.outputs:
                output.weight.normal_(std=0.1)
        wrapped = parallelize(learner, spec.blocks(learner), parallel, Ranks())
        feed = spec.build_feed(spec.config.tasks[0], Ranks())
        for number in range(2):  # batches of other lengths
            with torch.autocast("cpu", torch.bfloat16, enabled=parallel.autocast):
                terms = wrapped("draw", feed.batch(number))
            sum(terms.values()).backward()
        return {name: p.grad for name, p in learner.named_parameters() if p.grad is not None}

    plain, other = gradients(), gradients(**{switch: True})
    assert plain.keys() == other.keys()
    assert bool(counter.frame_count) == (switch == "compile")
    for name, gradient in plain.items():
        if switch == "autocast":  # some dozens of operations are rounded to 2^-9 each
            assert float((other[name] - gradient).norm()) <= 0.1 * float(gradient.norm()) + 1e-4
        else:
            assert_close(other[name], gradient, atol=1e-5, rtol=1e-3)  # fp32 sums in another order


def test_flops_are_those_that_torch_counts(shards):
    from torch.utils.flop_counter import FlopCounterMode

    for order in ("random", "raster"):
        net = small(order=order, classes=3)
        codes, coords = some_codes(sum(LENGTHS)), torch.cat(PLACES)
        hidden = torch.arange(len(codes)) % 100 >= 100 * SEEN
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            what = net.told(told(net), len(LENGTHS))
            if order == "raster":
                net.head(net.raster(codes, coords, LENGTHS, what), codes)
            else:
                net.head(net.features(codes, ~hidden, coords, LENGTHS, what)[hidden], codes[hidden])
        ours = recipe(shards, order=order).flops(net.config, LENGTHS, [0] * len(LENGTHS)) / 3
        assert abs(counter.get_total_flops() / ours - 1) < 0.2  # seen tokens are a share, small matrices are left out


def test_what_does_not_fit(model, shards, tmp_path):
    for changes, names in (
        ({"generator": "flow"}, ("flow", "masked")),
        ({"size": "XL"}, ("XL", "nano")),
        ({"order": "spiral"}, ("order", "spiral")),
    ):
        with refused(*names):
            recipe(shards, **changes)
    with ShardWriter(tmp_path / "latents.atoks") as writer:
        writer.write(TokenSample(key="numbers", tokens=model.encode(np.zeros((16, 16, 3), np.uint8))))
    spec = MaskedSpec(recipe(tmp_path))
    with refused("numbers", "latents", "codes"):
        spec.build_feed(spec.config.tasks[0], Ranks())
