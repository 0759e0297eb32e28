"""Checkpoints: one flipped bit is noticed, nothing in a file runs, and the run goes on from the one before."""

import builtins
import json
import logging
import os
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import BytesStorageMetadata

from atoken import PRESETS
from atoken.core.errors import ReadError
from atoken.engine import checkpoint_files, checkpoints
from atoken.engine.checkpoint_files import read_progress, sealed
from atoken.engine.checkpoint_metadata import Reader, read_metadata
from atoken.engine.ema import EMA
from atoken.engine.optimizer import STATES, build_optimizers
from atoken.engine.ranks import Ranks
from atoken.train.trainer import TokenizerSpec, parameter_groups, train
from refusals import check_names, refused
from train.conftest import SMALL, records, terms


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Where the first test leaves its run for the others."""
    return tmp_path_factory.mktemp("made") / "run"


@pytest.fixture
def run(config, tmp_path, made):
    """A run of two steps with a checkpoint of each, and its recipe."""
    config = replace(config, steps=4, log=replace(config.log, every=1, checkpoint_every=1))
    if not made.exists():
        train(config, made, stop_after=2)
    shutil.copytree(made, tmp_path / "run")
    return config, tmp_path / "run"


def restored(config, out, **model):
    """What a run of ``config`` goes on from, without training."""
    found = checkpoints.Checkpoints(out / "checkpoints", 2, Ranks())
    stored = found.newest()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "small", replace(SMALL, **model))
        with stored.naming():
            module = TokenizerSpec(config).build(Ranks(), stored.model)
        optimizers = build_optimizers(parameter_groups(module, config.optimizer), config.optimizer)
        found.load(stored, module, EMA(module, 0.9), optimizers)
    return stored.progress


def edit(folder, change, *, seal=True):
    """``progress.json`` of a checkpoint with other facts, and with a checksum of them unless ``seal`` is False."""
    path = folder / "progress.json"
    facts = json.loads(path.read_text())
    del facts["sha256"]
    change(facts)
    path.write_text(sealed(facts) if seal else json.dumps(facts))


def as_before_checksums(folder):
    edit(folder, lambda facts: facts.pop("files"), seal=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["progress.json", ".metadata", "__0_0.distcp"])
def test_a_flipped_bit_is_noticed_wherever_it_is(run, name):
    path = run[1] / "checkpoints/step-0000002" / name
    whole = path.read_bytes()
    for at in np.random.default_rng(0).integers(0, len(whole) * 8, 60 if len(whole) > 10_000 else 300):
        broken = bytearray(whole)
        broken[at // 8] ^= 1 << at % 8
        path.write_bytes(broken)
        with refused("step-0000002", "delete", error=ReadError):
            checkpoint_files.check_files(path.parent, read_progress(path.parent)["files"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "damage"), [("progress.json", "missing"), (".metadata", "cut"), ("__0_0.distcp", "flipped")]
)
def test_the_checkpoint_before_is_taken(run, tmp_path, caplog, name, damage):
    config, out = run
    whole = train(config, tmp_path / "whole")
    path = out / "checkpoints/step-0000002" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    with caplog.at_level(logging.WARNING):
        again = train(config, out)
    (warning,) = [record.getMessage() for record in caplog.records if record.name.startswith("atoken")]
    check_names(warning, "step-0000002", "step-0000001", "delete")
    assert all(torch.equal(whole.state_dict()[key], value) for key, value in again.state_dict().items())
    assert terms(out) == terms(tmp_path / "whole")


def test_a_run_does_not_start_anew_behind_damaged_checkpoints(run):
    config, out = run
    for folder in (out / "checkpoints").iterdir():
        (folder / ".metadata").write_bytes(b"")
    with refused("step-0000002", "delete"):
        restored(config, out)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda facts: facts.update(step=-5), "-5"),
        (lambda facts: facts.update(step=1), "step"),
        (lambda facts: facts.update(step=True), "step"),
        (lambda facts: facts.update(skipped="x"), "skipped"),
        (lambda facts: facts.update(cursors=[]), "cursors"),
        (lambda facts: facts.update(cursors=["x"]), "cursors"),
        (lambda facts: facts.update(more=1), "more"),
        (lambda facts: facts.update(files=[]), "files"),
        (lambda facts: facts.update(files={"a": 1}), "files"),
        (lambda facts: facts.pop("step"), "step"),
        (lambda facts: facts.update(model={"name": 3}), "progress.json"),
        (lambda facts: facts.update(model=[]), "progress.json"),
    ],
)
@pytest.mark.parametrize("old", [False, True])
def test_facts_that_cannot_be_are_one_sentence(run, change, named, old):
    config, out = run
    shutil.rmtree(out / "checkpoints/step-0000001")
    folder = out / "checkpoints/step-0000002"
    if old:
        as_before_checksums(folder)
        facts = json.loads((folder / "progress.json").read_text())
        change(facts)
        (folder / "progress.json").write_text(json.dumps(facts))
    else:
        edit(folder, change)
    with refused("step-0000002", named, "delete"):
        restored(config, out)


class Command:
    """Runs a command where it is unpickled without care."""

    def __reduce__(self):
        return os.mkdir, (Command.path,)


@pytest.mark.parametrize("old", [False, True])
def test_nothing_in_a_checkpoint_runs(run, tmp_path, monkeypatch, old):
    config, out = run
    shutil.rmtree(out / "checkpoints/step-0000001")
    folder = out / "checkpoints/step-0000002"
    monkeypatch.setattr(Command, "path", str(tmp_path / "it-ran"), raising=False)
    (folder / ".metadata").write_bytes(pickle.dumps(Command()))
    if old:
        as_before_checksums(folder)
    else:  # as somebody would who makes such a folder on purpose
        edit(folder, lambda facts: facts["files"].update(checkpoint_files.digests(folder, [".metadata"])))
    with refused(".metadata", "mkdir"):
        restored(config, out)
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("name", ["eval", "getattr", "__import__"])
def test_builtins_are_no_records_of_a_checkpoint(run, name):
    folder = run[1] / "checkpoints/step-0000002"
    (folder / ".metadata").write_bytes(pickle.dumps(getattr(builtins, name)))
    with refused(".metadata", name, error=ReadError):
        read_metadata(folder)


def test_sealed_facts_without_the_files_are_refused(run):
    folder = run[1] / "checkpoints/step-0000002"
    edit(folder, lambda facts: facts.pop("files"))
    with refused("progress.json", "files", error=ReadError):
        read_progress(folder)


def test_an_entry_of_bytes_and_a_path_that_leads_out_are_refused(run):
    """DCP unpickles the first as it comes."""
    folder = run[1] / "checkpoints/step-0000002"
    whole = read_metadata(folder)
    for key, info in whole.storage_data.items():
        whole.storage_data[key] = replace(info, relative_path="../" + info.relative_path)
        break
    (folder / ".metadata").write_bytes(pickle.dumps(whole))
    with refused(".metadata", "../__0_0.distcp", error=ReadError):
        read_metadata(folder)
    name = next(iter(whole.state_dict_metadata))
    whole.state_dict_metadata[name] = BytesStorageMetadata()
    (folder / ".metadata").write_bytes(pickle.dumps(whole))
    with refused(".metadata", name, error=ReadError):
        read_metadata(folder)


@pytest.mark.slow
def test_a_checkpoint_of_before_checksums_goes_on(run, tmp_path):
    config, out = run
    as_before_checksums(out / "checkpoints/step-0000002")
    whole, continued = train(config, tmp_path / "whole"), train(config, out)
    assert all(torch.equal(whole.state_dict()[key], value) for key, value in continued.state_dict().items())


def test_a_checkpoint_of_another_model_is_refused(run):
    config, out = run
    with refused("step-0000002", "name", "'small'", "'other'", "--out"):
        restored(config, out, name="other")


def test_a_checkpoint_goes_on_though_a_key_of_models_is_newer(run):
    config, out = run
    folder = out / "checkpoints/step-0000002"
    edit(folder, lambda facts: facts["model"].pop("gelu"))
    assert restored(config, out).step == 2
    edit(folder, lambda facts: facts["model"].update(gelu="none"))
    with refused("gelu", "'none'", "'tanh'"):
        restored(config, out)


def test_checkpoints_are_ordered_as_numbers(run):
    _, out = run
    last = out / "checkpoints/step-0000002"
    for number in (9_999_999, 10_000_000):
        (out / f"checkpoints/step-{number}").mkdir()
    found = checkpoints.Checkpoints(out / "checkpoints", 2, None)._found()
    assert [folder.name for folder in found][-3:] == [last.name, "step-9999999", "step-10000000"]


def test_a_checkpoint_of_other_optimizers_is_one_sentence(run):
    config, out = run
    with refused("step-0000002", "muon", "--out"):
        restored(replace(config, optimizer=replace(config.optimizer, muon_lr=None)), out)


def test_no_room_is_made_for_states_that_the_run_does_not_have(run, monkeypatch):
    """A name is a few bytes of a file, and room for what it names as large as a parameter."""
    config, out = run
    stored = checkpoints.Checkpoints(out / "checkpoints", 2, Ranks()).newest()
    names = [name for name in stored.metadata.state_dict_metadata if name.startswith("optimizer/")]
    assert {tuple(name.split("/")[1:3]) for name in names} == {(k, each) for k in STATES for each in STATES[k]}
    module = TokenizerSpec(config).build(Ranks(), stored.model)
    optimizers = build_optimizers(parameter_groups(module, config.optimizer), config.optimizer)
    made = []
    for number in range(1000):
        _, kind, _, name = names[0].split("/", 3)
        entry = stored.metadata.state_dict_metadata[names[0]]
        stored.metadata.state_dict_metadata = {
            f"optimizer/{kind}/x{number}/{name}": entry,
            **stored.metadata.state_dict_metadata,
        }
    zeros = torch.zeros_like
    monkeypatch.setattr(torch, "zeros_like", lambda like: made.append(like) or zeros(like))
    with refused("step-0000002", "optimizer/", "--out"):
        checkpoints.Checkpoints(out / "checkpoints", 2, Ranks()).load(stored, module, EMA(module, 0.9), optimizers)
    assert not made


@pytest.mark.slow
def test_files_and_folder_reach_the_disk_before_the_name(config, tmp_path, monkeypatch):
    synced = []
    fsync, rename = os.fsync, type(tmp_path).rename
    where = {}

    def noting(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        return fsync(descriptor)

    def renaming(self, target):
        where[target.name] = len(synced)
        return rename(self, target)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc")
    monkeypatch.setattr(os, "fsync", noting)
    monkeypatch.setattr(type(tmp_path), "rename", renaming)
    train(config, tmp_path / "run", stop_after=1)
    at = where["step-0000001"]
    folder = str(tmp_path / "run/checkpoints/partial-1")
    before = set(synced[:at])
    assert {f"{folder}/{name}" for name in ("progress.json", ".metadata", "__0_0.distcp")} | {folder} <= before
    assert str(tmp_path / "run/checkpoints") in synced[at:]


@pytest.mark.slow
def test_the_log_holds_no_step_twice(run):
    """A run that was killed after its checkpoint had recorded steps that come again."""
    config, out = run
    with (out / "log.jsonl").open("a") as log:
        log.write('{"step": 3, "grad_norm": 1.0}\n{"step": 4, "no')
    train(config, out)
    steps = [record["step"] for record in records(out)]
    assert steps == list(range(1, config.steps + 1))


@pytest.mark.slow
def test_stopping_after_no_step_trains_nothing(config, tmp_path):
    assert train(config, tmp_path / "run", stop_after=0) is None
    assert not (tmp_path / "run/log.jsonl").exists()


@pytest.mark.slow
def test_dcp_is_asked_for_tensors_alone(run, monkeypatch):
    """The one call that reads data gets metadata that was checked."""
    config, out = run
    readers = []
    load = dcp.load
    monkeypatch.setattr(dcp, "load", lambda *a, **k: readers.append(k["storage_reader"]) or load(*a, **k))
    train(config, out, stop_after=3)
    assert isinstance(readers[0], Reader)
