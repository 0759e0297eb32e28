"""Training by recipe: what learns, answers alone, from files and from shards alike, going on after a stop."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import atoken
from atoken import PRESETS, AToken
from atoken.core.errors import ReadError
from refusals import refused

pytest.importorskip("transformers")
pytest.importorskip("peft")
pytest.importorskip("trl")

from atoken.cli import app
from atoken.cli.recipes import plan, read_any
from atoken.mllm.assemble import assemble
from atoken.mllm.collate import Collator
from atoken.mllm.load import load_mllm
from atoken.mllm.plan import language_size
from atoken.mllm.recipe import MllmRecipe, StageConfig
from atoken.mllm.rows import read_rows
from atoken.mllm.train import run, set_learning
from atoken.tokens.samples import TokenSample
from atoken.tokens.shards import ShardWriter, TokenShards
from small_language import language_model, seeded, text_tokenizer

COLOURS = {"red": (200, 20, 20), "green": (20, 180, 40), "blue": (20, 30, 200)}


def row(answer: str, **source: str) -> dict:
    prompt = [{"role": "user", "content": [{"type": "image", **source}, {"type": "text", "text": "colour?"}]}]
    return {"prompt": prompt, "completion": [{"role": "assistant", "content": answer}], "kind": "colour"}


def lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tokenizer, a language model, plain pictures with their rows, and their tokens in a shard."""
    folder = tmp_path_factory.mktemp("train")
    tokenizer = seeded(AToken, PRESETS["tiny"]).eval()
    tokenizer.save_pretrained(folder / "tokenizer")
    seeded(language_model, initializer_range=0.3).save_pretrained(folder / "language")
    text_tokenizer().save_pretrained(folder / "language")
    with ShardWriter(folder / "tokens-000000.atoks") as writer:
        for name, colour in COLOURS.items():
            picture = np.full((32, 32, 3), colour, np.uint8)
            atoken.write_image(folder / f"{name}.png", picture)
            writer.write(TokenSample(key=name, tokens=tokenizer.encode(picture)))
    lines(folder / "files.jsonl", [row(name, path=f"{name}.png") for name in COLOURS])
    lines(folder / "keys.jsonl", [row(name, key=name) for name in COLOURS])
    return folder


def recipe(place: Path, stages: list[dict], **options) -> MllmRecipe:
    own = {"data": (str(place / "files.jsonl"),), "batch": 3}
    return MllmRecipe(
        name="small",
        language_model=str(place / "language"),
        tokenizer=str(place / "tokenizer"),
        stages=tuple(StageConfig(**{**own, **stage}) for stage in stages),
        autocast=False,
        **options,
    )


def trained(place: Path, folder: Path):
    return load_mllm(
        folder, tokenizer=place / "tokenizer", language_model=place / "language", device="cpu", dtype=torch.float32
    )


@pytest.mark.slow
def test_it_learns_what_is_shown(place, tmp_path):
    stages = [
        {"stage": "one", "steps": 5, "lr": 1e-3},
        {"stage": "two", "steps": 60, "lr": 1e-2, "learns": "lora"},
    ]
    model = trained(place, run(recipe(place, stages), tmp_path / "out", "cpu"))
    assert {name: model.ask(place / f"{name}.png", "colour?") for name in COLOURS} == {name: name for name in COLOURS}


@pytest.mark.slow
@pytest.mark.parametrize("learns", ["projector", "lora"])
def test_a_stopped_run_goes_on_as_if_it_had_not(place, tmp_path, learns):
    whole = run(recipe(place, [{"stage": "a", "steps": 6, "learns": learns}], save_every=3), tmp_path / "whole", "cpu")
    out = tmp_path / "stopped"
    run(recipe(place, [{"stage": "a", "steps": 6, "learns": learns}], save_every=3), out, "cpu")
    (out / "a/learnt.safetensors").unlink()
    for folder in out.glob("a/checkpoint-6/*"):
        folder.unlink()
    (out / "a/checkpoint-6").rmdir()
    again = run(recipe(place, [{"stage": "a", "steps": 6, "learns": learns}], save_every=3), out, "cpu")
    ours, theirs = ((folder / "projector.safetensors").read_bytes() for folder in (whole, again))
    assert ours == theirs


@pytest.mark.slow
def test_all_of_the_language_model_learns_where_asked(place, tmp_path):
    folder = run(recipe(place, [{"stage": "a", "steps": 2, "learns": "all"}]), tmp_path / "out", "cpu")
    before = load_language(place)
    after = trained(place, folder).model
    changed = after.model.language_model.layers[0].self_attn.q_proj.weight
    assert not torch.equal(changed, before.model.layers[0].self_attn.q_proj.weight)
    tokenizer = atoken.load(place / "tokenizer", device="cpu")
    for name, tensor in after.model.vision_tower.state_dict().items():
        assert torch.equal(tensor, tokenizer.state_dict()[name])


def load_language(place):
    from atoken.mllm.smollm import load_language_model

    return load_language_model(place / "language")[0]


@pytest.mark.slow
@pytest.mark.parametrize(("learns", "parts"), [("projector", ("projector",)), ("lora", ("projector", "lora_"))])
def test_what_learns(place, learns, parts):
    tokenizer = atoken.load(place / "tokenizer", device="cpu")
    model, _ = seeded(assemble, tokenizer, language_model(), text_tokenizer())
    model = set_learning(model, StageConfig(stage="a", data=("x",), steps=1, learns=learns))
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert all(any(part in name for part in parts) for name in names)
    assert all(any(part in name for name in names) for part in parts)
    assert not any("vision_tower" in name for name in names)


def collator(place, **options) -> Collator:
    tokenizer = atoken.load(place / "tokenizer", device="cpu")
    _, processor = seeded(assemble, tokenizer, language_model(), text_tokenizer(), **options)
    return Collator(processor, TokenShards(place))


def test_labels_are_the_answers_alone(place):
    collate = collator(place)
    batch = collate(list(read_rows(place / "files.jsonl")))
    tokenizer = collate.processor.tokenizer
    learnt = [tokenizer.decode(ids[ids >= 0]) for ids in batch["labels"]]
    assert learnt == [f"{name}<|im_end|>" for name in COLOURS]
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        assert torch.equal(ids[labels >= 0], labels[labels >= 0])
    assert batch["labels"][:, -1].tolist() == [2, 2, 2]


@pytest.mark.slow
def test_stored_tokens_give_the_loss_of_files(place):
    tokenizer = atoken.load(place / "tokenizer", device="cpu")
    model, processor = seeded(lambda: assemble(tokenizer, language_model(), text_tokenizer(), inputs="latents"))
    collate = Collator(processor, TokenShards(place))
    losses = [model(**collate(list(read_rows(place / name)))).loss.item() for name in ("files.jsonl", "keys.jsonl")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)  # fp32 sums in other batches


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "line 1"),
        (json.dumps({"prompt": [], "completion": []}), "line 1"),
        (json.dumps(row("x", path="missing.png")), "missing.png"),
        (json.dumps(row("x", key="missing")), "missing"),
        (json.dumps(row("x" * 3000, path="red.png")), "2048"),
    ],
)
def test_bad_rows_name_their_line(place, tmp_path, text, named):
    path = place / "bad.jsonl"
    path.write_text(text + "\n")
    with refused(named, "bad.jsonl, line 1", error=(ValueError, ReadError)):
        collator(place)(list(read_rows(path)))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"inputs": "pixels"}, "inputs"),
        ({"size": "giant"}, "size"),
        ({"stages": ()}, "stages"),
        ({"stages": (StageConfig(stage="a", data=("x",), steps=1),) * 2}, "name"),
        ({"ranks": 0}, "ranks"),
    ],
)
def test_recipes_that_cannot_be_are_refused(options, named):
    stages = (StageConfig(stage="a", data=("x",), steps=1),)
    with refused(named):
        MllmRecipe(**{"name": "a", "language_model": "x", "stages": stages, **options})
    with refused("learns"):
        StageConfig(stage="a", data=("x",), steps=1, learns="tower")


@pytest.mark.slow
def test_the_command_says_what_it_takes_and_what_is_missing(place, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"name: small\nlanguage_model: {place / 'language'}\ntokenizer: {place / 'tokenizer'}\n"
        f"stages:\n  - {{stage: a, data: [{place / 'files.jsonl'}], steps: 4, tokens: 100, patches: 16}}\n"
    )
    told = CliRunner().invoke(app, ["train", str(path), "--dry-run", "--device", "cpu"])
    assert told.exit_code == 0, told.stderr
    assert "3 rows" in told.stdout
    path.write_text(path.read_text().replace("files", "missing"))
    told = CliRunner().invoke(app, ["train", str(path), "--dry-run", "--device", "cpu"])
    assert told.exit_code == 2
    assert "missing.jsonl" in told.stderr


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "recipes/mllm").glob("*.yaml")), ids=lambda p: p.stem
)
def test_shipped_recipes_cost_what_they_say(path):
    """Two operations for each weight, token and pass: forward, back, and for what learns once more."""
    config = read_any(path)
    cost = plan(config)
    size = language_size(config.language_model)
    passes = {"projector": 2, "lora": 2, "all": 3}
    share = sum(
        stage.steps * passes[stage.learns] * 2 * stage.tokens * stage.batch * stage.accumulate
        for stage in config.stages
    )
    least = share * size.block_parameters * config.ranks / config.steps
    assert least < cost.flops < 3 * least  # attention and the tower beside it
    assert cost.parameters > size.parameters
