"""The loop: it learns, goes on exactly, survives bad steps and ends in good order."""

import importlib
import json
import shutil
import signal
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from atoken import PRESETS, AToken, Packed, load, write_image
from atoken.engine import checkpoints, loop
from atoken.engine.ema import EMA
from atoken.engine.metrics import Metrics
from atoken.engine.optimizer import build_optimizers
from atoken.engine.ranks import Ranks
from atoken.losses.sigmoid import START_BIAS, START_LOG_SCALE
from atoken.nn.packed import dense_coords
from atoken.train import trainer
from atoken.train.module import TrainModule
from atoken.train.start import start_model, with_latents
from atoken.train.trainer import train
from refusals import refused

from .conftest import SMALL, records, terms
from .test_tasks import Words


@pytest.mark.slow
def test_a_resumed_run_is_the_uninterrupted_one(config, tmp_path):
    whole = train(config, tmp_path / "whole")
    assert train(config, tmp_path / "parts", stop_after=1) is None
    train(config, tmp_path / "parts", stop_after=4)
    parts = train(config, tmp_path / "parts")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name
    one, other = terms(tmp_path / "whole"), terms(tmp_path / "parts")
    assert {step: one[step] for step in (2, 4, 6)}[6] == other[6]
    assert one[4]["grad_norm"] == other[4]["grad_norm"]
    assert load(tmp_path / "whole/model").config == SMALL


@pytest.mark.slow
def test_one_batch_is_learnt_by_heart(config, folder, tmp_path):
    crops = replace(config.tasks[0].crops, sizes=(32,), shares=(1.0,), flat_below=0.0)
    task = replace(config.tasks[0], tokens=4, crops=crops)
    optimizer = replace(config.optimizer, lr=3e-3, muon_lr=0.02, warmup=5, decay=120)
    run = replace(config, steps=150, tasks=(task,), start=None, optimizer=optimizer, log=replace(config.log, every=10))

    class Same:
        def __init__(self, feed):
            self.feed = feed

        def batch(self, number):
            return self.feed.batch(0)

    build = trainer.build_feed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "build_feed", lambda *args: Same(build(*args)))
        train(run, tmp_path / "run")
    losses = [record["image-reconstruction/l1"] for record in records(tmp_path / "run") if "grad_norm" in record]
    assert losses[-1] < 0.05 * losses[0]


@pytest.mark.slow
def test_what_a_record_holds(config, tmp_path):
    train(replace(config, steps=4), tmp_path / "run")
    record = records(tmp_path / "run")[0]
    assert set(record) == {
        *("step", "lr", "grad_norm", "skipped", "tokens_per_s", "mfu"),
        *(f"image-reconstruction/{term}" for term in ("l1", "log_mse", "kl")),
    }
    assert record["mfu"] > 0
    assert record["image-reconstruction/kl"] < 1e-5  # weighted


@pytest.mark.slow
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 704 vs 598")])
def test_a_checkpoint_that_cannot_be_written_is_one_sentence(config, tmp_path, monkeypatch, error):
    train(config, tmp_path / "run", stop_after=1)

    def full(self, plan, planner):
        (self.path / "part").write_bytes(b"1")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("torch.distributed.checkpoint.FileSystemWriter.write_data", full)
        with refused("step-0000002", "cannot be written", error=OSError):
            train(config, tmp_path / "run", stop_after=2)
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-0000001"]
    assert train(config, tmp_path / "run", stop_after=3) is None


@pytest.mark.slow
def test_steps_without_a_finite_gradient_change_nothing_and_end_the_run(config, tmp_path, monkeypatch):
    run = replace(
        config, steps=6, optimizer=replace(config.optimizer, most_skipped=2), log=replace(config.log, every=1)
    )
    forward, calls = TrainModule.forward, []

    def broken(self, task, batch):
        calls.append(task)
        found = forward(self, task, batch)
        bad = len(calls) in bad_calls
        return {name: value * (float("nan") if bad else 1.0) for name, value in found.items()}

    monkeypatch.setattr(TrainModule, "forward", broken)
    bad_calls = {2, 3}
    model = train(run, tmp_path / "two")
    assert records(tmp_path / "two")[-1]["skipped"] == 2
    assert all(bool(torch.isfinite(tensor).all()) for tensor in model.state_dict().values())
    calls.clear()
    bad_calls = {1, 2, 4}
    with refused("3 steps", "step 4"):
        train(run, tmp_path / "three")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_ends_the_run(config, tmp_path, monkeypatch, number):
    add, steps = Metrics.add, []

    def interrupted(self, *args):
        steps.append(args)
        if len(steps) == 3:
            signal.raise_signal(number)
        add(self, *args)

    monkeypatch.setattr(Metrics, "add", interrupted)
    before = signal.getsignal(number)
    assert train(config, tmp_path / "run") is None
    assert signal.getsignal(number) is before
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-0000003"]
    monkeypatch.setattr(Metrics, "add", add)
    model = train(config, tmp_path / "run")
    assert torch.equal(model.proj.weight, train(config, tmp_path / "whole").proj.weight)


@pytest.mark.slow
def test_pictures_and_psnr_come_with_checkpoints(config, tmp_path):
    photographs = tmp_path / "eval"
    write_image(photographs / "a.png", np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    log = replace(config.log, eval_path=str(photographs), tensorboard=True)
    train(replace(config, steps=4, log=log), tmp_path / "run")
    shown = [record["step"] for record in records(tmp_path / "run") if "psnr" in record]
    assert shown == [0, 4]  # before the first step, too
    assert {"psnr", "psnr_ema"} <= set(records(tmp_path / "run")[0])
    assert (tmp_path / "run/pictures/step-0000000.png").is_file()
    assert (tmp_path / "run/pictures/step-0000004.png").is_file()
    assert list((tmp_path / "run/tensorboard").iterdir())


@pytest.mark.slow
def test_only_the_last_checkpoints_stay(config, tmp_path):
    train(replace(config, log=replace(config.log, checkpoint_every=1)), tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir()) == ["step-0000005", "step-0000006"]


def test_graphs_are_for_one_rank(config, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "joined", lambda device: nullcontext(Ranks(0, 2)))
    with refused("graphs", "2"):
        train(replace(config, parallel=replace(config.parallel, graphs=True)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_frozen_weights_stay(config, tmp_path):
    torch.manual_seed(0)
    AToken(SMALL).save_pretrained(tmp_path / "first")
    run = replace(config, start=None, init_from=str(tmp_path / "first"), frozen=("encoder.", "proj."))
    model, first = train(run, tmp_path / "run"), load(tmp_path / "first")
    assert torch.equal(model.encoder.input_layer.weight, first.encoder.input_layer.weight)
    assert torch.equal(model.proj.weight, first.proj.weight)
    assert not torch.equal(model.decoder.out_layer.weight, first.decoder.out_layer.weight)


def test_a_run_without_a_weight_to_learn_is_refused(config):
    with refused("frozen"):
        trainer.TokenizerSpec(replace(config, start=None, frozen=("",))).start(Ranks())


# Stages


def decoded(model, patches):
    packed = Packed.cat([(patches, dense_coords((1, 4, 4, 1)))])
    with torch.no_grad():
        latents = model.encode_packed(packed).posterior.mode()
        return model.decode_packed(Packed(latents, packed.coords))


def test_more_latents_change_nothing_at_first_and_learn_at_once():
    torch.manual_seed(0)
    narrow = AToken(replace(SMALL, latent_channels=32))
    wide = with_latents(narrow, 48, ("continuous",))
    patches = torch.randn(16, 768)
    torch.testing.assert_close(decoded(wide, patches), decoded(narrow, patches))
    packed = Packed.cat([(patches, dense_coords((1, 4, 4, 1)))])
    latents = wide.encode_packed(packed).posterior.mode()
    assert latents[:, 32:].std() > 0.3 * latents[:, :32].std()
    wide.decode_packed(Packed(latents, packed.coords)).square().sum().backward()
    assert wide.decoder.input_layer.weight.grad[:, 32:].abs().max() > 0
    with refused("48", "32"):
        with_latents(wide, 32, ("continuous",))


@pytest.mark.slow
def test_a_stage_starts_from_the_one_before_and_may_round(config, tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "small", replace(SMALL, latent_channels=32))
    train(replace(config, steps=4), tmp_path / "one")
    later = replace(config, steps=4, start=None, init_from=str(tmp_path / "one/model"), latent_channels=48)
    second = train(later, tmp_path / "two")
    assert second.config.latent_channels == 48
    rounding = replace(later, init_from=str(tmp_path / "two/model"), quantize=True)
    third = train(rounding, tmp_path / "three")
    assert third.config.kinds == ("discrete",)
    assert set(terms(tmp_path / "three")[4]) >= {"image-reconstruction/l1"}
    assert "image-reconstruction/kl" not in terms(tmp_path / "three")[4]
    assert not torch.equal(third.encoder.input_layer.weight, second.encoder.input_layer.weight)
    with refused("width", "64", "'nano'", "256"):
        train(replace(later, model="nano"), tmp_path / "four")


def test_a_deeper_preset_starts_as_the_shallower_model(config, tmp_path, monkeypatch):
    torch.manual_seed(0)
    first = AToken(SMALL)
    first.save_pretrained(tmp_path / "first")
    monkeypatch.setitem(PRESETS, "deep", replace(SMALL, name="deep", encoder_depth=3, decoder_depth=4))
    run = replace(config, model="deep", start=None, init_from=str(tmp_path / "first"))
    grown = start_model(run, None)
    assert (len(grown.encoder.blocks), len(grown.decoder.blocks)) == (3, 4)
    patches = torch.randn(16, 768)
    assert torch.equal(decoded(grown, patches), decoded(first, patches))
    monkeypatch.setitem(PRESETS, "flat", replace(SMALL, name="flat", encoder_depth=1))
    with refused("deepened"):
        start_model(replace(run, model="flat"), None)


@pytest.mark.slow
def test_the_learnt_scale_and_bias_are_part_of_the_model(config, folder, tmp_path, monkeypatch):
    index = json.loads((folder / "train.json").read_text())
    for number, entry in enumerate(index):
        entry["caption"] = f"picture {number}"
    (folder / "train.json").write_text(json.dumps(index))
    monkeypatch.setattr("atoken.train.networks.text", lambda name, device: Words())
    monkeypatch.setattr("atoken.train.config.MINILM_WIDTH", Words.width)
    task = replace(config.tasks[0], task="image-captions")
    learnt = train(replace(config, tasks=(task,)), tmp_path / "run").config
    assert learnt == load(tmp_path / "run/model").config
    assert 0 < abs(learnt.logit_scale - START_LOG_SCALE) < 0.1  # a logarithm
    assert 0 < abs(learnt.logit_bias - START_BIAS) < 0.1

    path = tmp_path / "run/model/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "logit_scale": 4.0, "logit_bias": -7.0}))
    later = replace(config, steps=4, tasks=(task,), start=None, init_from=str(path.parent))
    goes_on = train(later, tmp_path / "later").config
    assert 0 < abs(goes_on.logit_scale - 4.0) < 0.1
    assert 0 < abs(goes_on.logit_bias + 7.0) < 0.1


def test_a_folder_called_wandb_is_not_weights_and_biases(config, tmp_path, monkeypatch):
    (tmp_path / "wandb").mkdir()  # as its runs leave
    monkeypatch.setattr("sys.path", [str(tmp_path), *(p for p in sys.path if not (Path(p) / "wandb").exists())])
    importlib.invalidate_caches()
    with refused("pip install wandb"):
        train(replace(config, log=replace(config.log, wandb="mine")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_exported_model_has_the_averaged_weights(config, tmp_path):
    """On the CPU it had those of the last step: what was copied out of the module shared its memory."""
    slow = replace(config, optimizer=replace(config.optimizer, decay=0, lr=0.05, muon_lr=None))
    model = train(slow, tmp_path / "run")
    stored = checkpoints.Checkpoints(tmp_path / "run/checkpoints", 2, Ranks()).newest()
    module = trainer.TokenizerSpec(slow).build(Ranks(), stored.model)
    average, optimizers = (
        EMA(module, 0.9),
        build_optimizers(trainer.parameter_groups(module, slow.optimizer), slow.optimizer),
    )
    checkpoints.Checkpoints(tmp_path / "run/checkpoints", 2, Ranks()).load(stored, module, average, optimizers)
    assert torch.equal(model.proj.weight, average.values["model.proj.weight"])
    assert not torch.equal(model.proj.weight, module.model.proj.weight)


@pytest.mark.slow
def test_a_continued_run_needs_neither_its_start_nor_init_from(config, tmp_path, monkeypatch):
    """It loaded ``init_from`` and looked at 32 batches, only to overwrite what came of them."""
    torch.manual_seed(0)
    AToken(SMALL).save_pretrained(tmp_path / "first")
    run = replace(config, start=None, init_from=str(tmp_path / "first"))
    whole = train(run, tmp_path / "whole")
    train(run, tmp_path / "parts", stop_after=3)
    shutil.rmtree(tmp_path / "first")
    parts = train(run, tmp_path / "parts")
    assert all(torch.equal(tensor, parts.state_dict()[name]) for name, tensor in whole.state_dict().items())

    train(config, tmp_path / "linear", stop_after=3)
    monkeypatch.setattr("atoken.train.trainer.start_model", None)
    assert train(config, tmp_path / "linear") is not None


@pytest.mark.slow
def test_a_run_leaves_the_caller_s_random_numbers_alone(config, tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(replace(config, steps=4), tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)


def test_what_a_graph_records_is_what_the_module_computes(config):
    spec = trainer.TokenizerSpec(replace(config, start=None))
    module, feed = spec.build(Ranks()), spec.build_feed(config.tasks[0], Ranks())
    first = feed.batch(0)
    keys = set()
    for batch in (first, replace(first, seed=5), feed.batch(1)):
        capture = spec.capture(module, "image-reconstruction", batch)
        terms, expected = capture.prepare([t.clone() for t in capture.inputs])(), module("image-reconstruction", batch)
        assert terms.keys() == expected.keys()
        assert all(torch.equal(terms[name], expected[name]) for name in terms)
        keys.add(capture.key)
    assert len(keys) == 2  # crops of another size
    mixed = replace(first, samples=(replace(first.samples[0], modality="3d"), *first.samples[1:]))
    assert spec.capture(module, "image-reconstruction", mixed) is None
