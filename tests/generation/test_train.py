"""A flow's training on the engine: from token shards to a generator, resumed, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from generators import WORDS, tokenizer
from torch._dynamo.testing import CompileCounter
from torch.testing import assert_close

import atoken
from atoken import ShardWriter, TokenSample
from atoken.cli.recipes import read_any
from atoken.engine.config import LogConfig, OptimizerConfig, ParallelConfig
from atoken.engine.ranks import Ranks, parallelize
from atoken.generation.config import SIZES, ObjectiveConfig, SampleConfig, dit_config
from atoken.generation.flow import flops
from atoken.generation.flow.net import DiT
from atoken.generation.flow.recipe import FlowRecipe
from atoken.generation.flow.train import FlowSpec, train
from atoken.generation.plan import plan
from atoken.generation.recipe import PreviewConfig, TokensConfig
from refusals import refused

RECIPES = Path(__file__).parents[2] / "recipes" / "generation"


@pytest.fixture(scope="module")
def shards(model, tmp_path_factory) -> Path:
    """Twelve pictures of two sizes with labels, captions and features."""
    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    with ShardWriter(folder / "tokens-000000.atoks") as writer:
        for i in range(12):
            picture = rng.integers(0, 256, (16 * (1 + i % 2), 32, 3), dtype=np.uint8)
            tokens = model.encode(picture)
            extras = {"features": torch.full((len(tokens), 5), float(i + 1))}
            captions = () if i == 3 else (f"picture {i}", "a picture")
            writer.write(TokenSample(key=str(i), tokens=tokens, label=i % 3, captions=captions, extras=extras))
    return folder


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch):
    monkeypatch.setitem(SIZES, "nano", (2, 32, 2, 48))


def recipe(shards: Path, **changes: object) -> FlowRecipe:
    given = {
        "generator": "flow",
        "name": "trial",
        "size": "nano",
        "picture": (16, 32),
        "steps": 6,
        "tasks": (TokensConfig("draw", 1.0, tokens=12, shards=(str(shards),)),),
        "optimizer": OptimizerConfig(lr=1e-3, warmup=2, ema=0.9),
        "parallel": ParallelConfig(autocast=False),
        "log": LogConfig(every=1, checkpoint_every=3, tensorboard=False),
        "sampling": SampleConfig(steps=2),
    }
    return FlowRecipe(**(given | changes))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model" / "model.safetensors")


@pytest.mark.slow
def test_a_run_ends_in_a_generator_that_draws(model, shards, letters, tmp_path):
    config = recipe(shards, text_tower="letters", classes=3, whiten=True)
    result = train(config, tmp_path)
    assert result.labels == ()
    gen = atoken.load_generator(tmp_path / "model", tokenizer=model)
    assert gen.config == result
    assert gen.stats.basis is not None
    picture = gen("moon", class_labels=1, guidance=2.0, seeds=0)[0]
    assert picture.shape == (16, 32, 3)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "draw/velocity" in line or "velocity" in str(line)] == list(range(1, 7))


@pytest.mark.slow
def test_a_continued_run_is_the_uninterrupted_one(shards, letters, tmp_path):
    config = recipe(shards, text_tower="letters")
    train(config, tmp_path / "whole")
    assert train(config, tmp_path / "parts", stop_after=3) is None
    train(config, tmp_path / "parts")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    with refused("objective"):
        train(recipe(shards, text_tower="letters", objective=ObjectiveConfig("x")), tmp_path / "parts")


def test_batches_hold_what_the_samples_are_told(shards, letters):
    spec = FlowSpec(
        recipe(shards, text_tower="letters", classes=3, objective=ObjectiveConfig(align=0.5, align_block=1))
    )
    feed = spec.build_feed(spec.config.tasks[0], Ranks())
    batches = [feed.batch(number) for number in range(8)]
    again = spec.build_feed(spec.config.tasks[0], Ranks(), batches[2].cursor).batch(0)
    assert torch.equal(again.latents.feats, batches[3].latents.feats)
    assert again.seed == batches[3].seed
    assert len({batch.seed for batch in batches}) == 8
    lengths = {len("a picture"), *(len(f"picture {i}") for i in range(12))}
    seen = [n for batch in batches for n in batch.condition.text[1]]
    assert set(seen) <= lengths | {0}
    assert 0 in seen  # the sample without a caption
    assert {2, 4} == {n for batch in batches for n in batch.latents.lengths}
    first = batches[0]
    assert first.condition.text[0].shape[1] == WORDS
    for label, feature in zip(
        first.condition.labels.tolist(), first.features.split(first.latents.lengths), strict=True
    ):
        assert (int(feature[0, 0]) - 1) % 3 == label


def test_the_module_learns_normalised_latents(shards):
    spec = FlowSpec(recipe(shards))
    learner = spec.start(Ranks())
    latents = torch.cat([sample.tokens.latents for sample in spec.shards["draw"].shards[0]])
    x = learner.stats.normalise(latents)
    assert_close(x.mean(0), torch.zeros(48), atol=1e-4, rtol=0)
    assert_close(x.std(0), torch.ones(48), atol=1e-3, rtol=0)
    terms = learner("draw", spec.build_feed(spec.config.tasks[0], Ranks()).batch(0))
    # a net that predicts nothing: E|e - x|^2 is 2, here of 12 tokens of 48 numbers, within 5 standard errors
    assert abs(terms["velocity"].item() - 2) < 5 * (8 / (10 * 48)) ** 0.5


def test_all_parameters_have_a_gradient_whatever_is_dropped(shards, letters):
    for drop in (0.0, 0.999999):  # FSDP waits for ever, or fails, where ranks differ in that
        config = recipe(shards, text_tower="letters", classes=3, objective=ObjectiveConfig(drop=drop))
        captioned = replace(config.tasks[0], samples=1)
        spec = FlowSpec(replace(config, tasks=(captioned,)))
        learner = spec.start(Ranks())
        learner("draw", spec.build_feed(captioned, Ranks()).batch(0))["velocity"].backward()
        assert [name for name, p in learner.named_parameters() if p.grad is None] == []


def test_parameters_all_have_an_optimizer(shards, letters):
    spec = FlowSpec(recipe(shards, text_tower="letters", classes=3, optimizer=OptimizerConfig(muon_lr=0.02, warmup=2)))
    learner = spec.start(Ranks())
    groups = spec.parameter_groups(learner)
    found = [id(p) for group in groups for p in group.parameters]
    assert sorted(found) == sorted(id(p) for p in learner.parameters())
    names = {id(p): name for name, p in learner.named_parameters()}
    muon = {names[id(p)].split(".blocks.0.")[-1] for g in groups if g.optimizer == "muon" for p in g.parameters}
    assert {"attn.to_qkv.weight", "mlp.down.weight"} <= muon
    assert not any("modulation" in name for name in muon)
    assert len(spec.blocks(learner)) == 2


@pytest.mark.slow
def test_previews_are_drawn_with_every_checkpoint(model, shards, letters, tmp_path):
    model.save_pretrained(tmp_path / "tokenizer")
    previews = PreviewConfig(prompts=("moon", "sun"), tokenizer=str(tmp_path / "tokenizer"))
    train(recipe(shards, text_tower="letters", previews=previews), tmp_path / "run")
    pictures = sorted((tmp_path / "run" / "pictures").iterdir())
    assert [path.name for path in pictures] == [f"step-{n:07d}.png" for n in (0, 3, 6)]
    assert atoken.read_image(pictures[-1]).shape == (16, 2 * 32 + 4, 3)


def test_flops_are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    config = dit_config("nano", 48, text_width=8)
    net, lengths, words = DiT(config), [6, 6], [3, 3]
    from atoken.generation.condition import Condition
    from atoken.nn.packed import dense_coords

    coords = torch.cat([dense_coords((1, 2, 3, 1))] * 2)
    condition = Condition(text=(torch.randn(6, 8), words))
    with FlopCounterMode(display=False) as counter:
        prepared = net.prepare(coords, lengths, condition)
        net(torch.randn(12, 48), torch.tensor([0.5, 0.2]), prepared)
    ours = flops.training_flops(config, lengths, words) / 3
    # time, pooled text and the last modulation, one row a sample, are left out
    assert ours < counter.get_total_flops() < 1.25 * ours


def test_shards_that_do_not_fit(model, shards, letters, tmp_path):
    def feed(folder: Path, **changes: object):
        spec = FlowSpec(recipe(folder, **changes))
        return spec.build_feed(spec.config.tasks[0], Ranks()).batch(0)

    with refused("nowhere", error=FileNotFoundError):
        feed(Path("nowhere"))
    with refused("label", "classes"):
        feed(shards, classes=1, tasks=(TokensConfig("draw", 1.0, tokens=100, shards=(str(shards),)),))
    tokens = [model.encode(np.zeros((16, 16, 3), np.uint8)), tokenizer(1).encode(np.zeros((16, 16, 3), np.uint8))]
    with ShardWriter(tmp_path / "mixed.atoks") as writer:
        for i, item in enumerate(tokens):
            writer.write(TokenSample(key=f"number {i}", tokens=item))
    with refused("number", tokens[0].weights[:12], tokens[1].weights[:12]):
        feed(tmp_path)
    with refused("number 0", "features"):
        feed(tmp_path, objective=ObjectiveConfig(align=1.0))
    with ShardWriter(tmp_path / "codes" / "codes.atoks") as writer:
        writer.write(TokenSample(key="coded", tokens=model.encode(np.zeros((16, 16, 3), np.uint8), kind="discrete")))
    with refused("coded", "codes"):
        feed(tmp_path / "codes")


def test_recipes_that_cannot_be(shards, tmp_path):
    for changes, names in (
        ({"generator": "gan"}, ("gan", "flow")),
        ({"size": "huge"}, ("huge", "XL")),
        ({"picture": (100, 128)}, ("100", "16")),
        ({"labels": "names.txt"}, ("classes",)),
        ({"previews": PreviewConfig(prompts=("a",))}, ("previews", "text_tower")),
    ):
        with refused(*names):
            recipe(shards, **changes)
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    with refused("names.txt", "2", "3"):
        recipe(shards, classes=3, labels=str(tmp_path / "names.txt")).read_labels()


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_read_and_cost_what_they_say(path, monkeypatch):
    monkeypatch.undo()  # the real sizes
    config = read_any(path)
    cost = plan(config)
    assert cost.flops > 0
    assert replace(config, seed=1).seed == 1


@pytest.mark.slow
@pytest.mark.parametrize("switch", ["checkpointing", "compile"])
def test_blocks_that_are_recomputed_or_compiled_learn_the_same(switch, shards, monkeypatch):
    counter = CompileCounter()  # hands the traced graphs back as they are
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    torch._dynamo.reset()

    def gradients(**switches: bool) -> dict[str, torch.Tensor]:
        spec = FlowSpec(recipe(shards, classes=3, parallel=ParallelConfig(autocast=False, **switches)))
        torch.manual_seed(0)
        learner = spec.start(Ranks())
        with torch.no_grad():
            learner.objective.net.final.weight.normal_(std=0.1)
        parallel = parallelize(learner, spec.blocks(learner), spec.config.parallel, Ranks())
        feed = spec.build_feed(spec.config.tasks[0], Ranks())
        for number in range(2):  # batches of other lengths
            parallel("draw", feed.batch(number))["velocity"].backward()
        return {name: p.grad for name, p in learner.named_parameters() if p.grad is not None}

    plain, other = gradients(), gradients(**{switch: True})
    assert plain.keys() == other.keys()
    assert bool(counter.frame_count) == (switch == "compile")
    for name, gradient in plain.items():
        assert_close(other[name], gradient, atol=1e-5, rtol=1e-3)  # fp32 sums in another order
