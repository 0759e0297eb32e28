"""3D: the feed of packed assets, and a Gaussian head that joins a model and learns one object by heart."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from atoken import PRESETS, AToken, GaussianConfig, Gaussians, load
from atoken.data.assets import Assets, draw_targets
from atoken.data.config import AssetsConfig
from atoken.gaussians.raster.rasterize import render
from atoken.media.views.cameras import hammersley_sphere
from atoken.media.views.packed import PackedAsset, read_packed
from atoken.media.views.views import DISTANCE, Views
from atoken.media.views.voxels import occupied_voxels
from atoken.metrics.psnr import psnr
from atoken.train.config import TaskConfig, TrainConfig
from atoken.train.tasks import GaussiansAlone
from atoken.train.trainer import train
from refusals import refused

from .conftest import SMALL, records, terms

SIDE, SIZE = 8, 48
HEAD = GaussianConfig(
    width=48, heads=2, depth=1, mlp_width=96, per_voxel=4, resolution=SIDE, scale=0.3 / SIDE, opacity=0.7, residual=True
)


def ball(seed: int, radius: float) -> Gaussians:
    """Solid Gaussians on a sphere, red above and of another colour below."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.nn.functional.normalize(torch.randn(400, 3, generator=generator), dim=1) * radius
    colours = torch.where(means[:, 1:2] > 0, torch.tensor([0.8, 0.2, 0.1]), torch.rand(3, generator=generator))
    upright = torch.tensor([[1.0, 0, 0, 0]]).repeat(400, 1)
    return Gaussians.of(means, torch.full((400, 3), 0.03), upright, torch.full((400,), 0.98), colours)


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """Four packed objects of 8 voxels a side, the last of which is not for training."""
    folder = tmp_path_factory.mktemp("things")
    own, others = (hammersley_sphere(n, size=SIZE, distance=DISTANCE, offset=o) for n, o in ((4, 0.0), (2, 0.5)))
    entries = []
    for number, radius in enumerate((0.45, 0.3, 0.2, 0.4)):
        name, drawn = f"ball-{number}", ball(number, radius)
        rendered = render(drawn, own)
        depth = torch.where(rendered.alpha > 0.5, rendered.depth, torch.inf)[:, 0].numpy()
        voxels, patch = occupied_voxels(Views(own, rendered.to_uint8(), depth), resolution=SIDE)
        arrays = {"views": rendered.to_uint8(), "held_out": render(drawn, others).to_uint8()}
        places = {f"voxels{SIDE}": voxels.byte().numpy(), f"patch{SIDE}": patch.byte().numpy()}
        np.savez(folder / f"{name}.npz", **arrays, **places)
        split = "test" if number == 3 else "train"
        entries.append({"id": name, "split": split, "name": f"Ball {number}", "category": "Toys"})
    (folder / "index.json").write_text(json.dumps(entries))
    return folder


def run_config(things, **changes) -> TrainConfig:
    task = TaskConfig(
        "3d-reconstruction", tokens=400, ratio=1.0, samples=1, assets=AssetsConfig(str(things), "test", SIDE, 2, 32)
    )
    return replace(changes.pop("base"), tasks=(task,), start=None, gaussians=HEAD, **changes)


def test_batches_follow_from_their_number(things):
    config = AssetsConfig(str(things), voxels=SIDE, views=2, view_size=32)
    feed, again = Assets(config, 2000, seed=1), Assets(config, 2000, seed=1)
    first, second = feed.batch(0), feed.batch(1)
    assert torch.equal(again.batch(1).packed.feats, second.packed.feats)
    assert torch.equal(again.batch(1).samples[0].views.pictures, second.samples[0].views.pictures)
    assert sorted(first.captions) == [f"ball {n}, toys" for n in range(3)]  # all of its split, each once
    assert not torch.equal(
        first.samples[0].views.pictures, Assets(config, 2000, 1, rank=1).batch(0).samples[0].views.pictures
    )
    largest, _, smallest = (len(read_packed(things / f"ball-{n}.npz").at(SIDE)[0]) for n in range(3))
    assert smallest < largest
    assert {c for n in range(6) for c in Assets(config, smallest, 1).batch(n).captions} == {"ball 2, toys"}
    assert len(Assets(config, 2000, 1, most=2).batch(0).samples) == 2
    with refused(things, smallest - 1):
        Assets(config, smallest - 1, 1).batch(0)
    with refused("validation"):
        Assets(replace(config, split="validation"), 2000, 1)
    with refused("furniture.py", error=FileNotFoundError):
        Assets(replace(config, path=str(things / "none")), 2000, 1)


def test_the_cameras_are_those_of_the_squares(things):
    """Drawing the very Gaussians from the cameras of the cut-out pictures gives those pictures."""
    asset = read_packed(things / "ball-1.npz")
    for seed in range(3):
        targets = draw_targets(asset, 6, 24, np.random.default_rng(seed))
        drawn = render(ball(1, 0.3), targets.cameras).rgb
        assert float((drawn - targets.pictures).abs().max()) < 1.01 / 255 / 2 + 1e-6
        assert float((targets.pictures.amax((1, 2, 3)) > 0.5).float().mean()) == 1, "squares show the asset"
    with refused("6", "48", "7", "24"):
        draw_targets(asset, 7, 24, np.random.default_rng(0))


@pytest.mark.slow
def test_a_head_joins_a_model_and_learns_an_object_by_heart(config, things, tmp_path):
    """Only the head learns, and all the rest is that of init_from; views between the learnt ones look alike, too."""
    torch.manual_seed(0)
    AToken(SMALL).save_pretrained(tmp_path / "flat")
    optimizer = replace(config.optimizer, lr=1e-2, muon_lr=None, warmup=5, decay=40, ema=0.9)
    run = run_config(
        things,
        base=config,
        steps=60,
        init_from=str(tmp_path / "flat"),
        frozen=("encoder.", "proj.", "decoder."),
        optimizer=optimizer,
    )
    model = train(run, tmp_path / "run")
    before = load(tmp_path / "flat").state_dict()
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    lines = records(tmp_path / "run")
    assert {"3d-reconstruction/render_l1", "3d-reconstruction/render_structure"} <= set(lines[0])
    asset = read_packed(things / "ball-3.npz")
    start = AToken(replace(SMALL, gaussians=HEAD))
    start.load_state_dict(before, strict=False)
    first, last = (
        psnr(render(m.decode(m.encode(asset)), asset.held_out_cameras).to_uint8(), asset.held_out)
        for m in (start, load(tmp_path / "run/model"))
    )
    assert last > first + 2


@pytest.mark.slow
def test_a_run_on_assets_resumes_exactly(config, things, tmp_path):
    run = run_config(things, base=config, log=replace(config.log, every=1))
    train(run, tmp_path / "whole")
    train(run, tmp_path / "parts", stop_after=2)
    train(run, tmp_path / "parts")
    assert terms(tmp_path / "whole") == terms(tmp_path / "parts")


@pytest.mark.slow
def test_a_head_that_differs_starts_anew(config, things, tmp_path, monkeypatch):
    torch.manual_seed(0)
    AToken(replace(SMALL, gaussians=HEAD)).save_pretrained(tmp_path / "solid")
    run = run_config(things, base=config, steps=4, init_from=str(tmp_path / "solid"))
    kept = replace(run, gaussians=None, frozen=("encoder", "proj", "decoder", "gaussians.input_layer"))
    model = train(kept, tmp_path / "kept")
    old = load(tmp_path / "solid").gaussians
    assert torch.equal(model.gaussians.input_layer.weight, old.input_layer.weight)
    assert not torch.equal(model.gaussians.out_layer.weight, old.out_layer.weight)
    deeper = train(replace(run, gaussians=replace(HEAD, depth=2)), tmp_path / "deeper")
    assert len(deeper.gaussians.blocks) == 2


@pytest.mark.slow
def test_neighbours_join_a_head_that_goes_on(config, things, tmp_path):
    torch.manual_seed(0)
    start = AToken(replace(SMALL, gaussians=HEAD))
    torch.nn.init.normal_(start.gaussians.out_layer.weight, std=0.1)
    start.save_pretrained(tmp_path / "solid")
    still = replace(config.optimizer, lr=0.0, muon_lr=0.0)
    run = run_config(things, base=config, steps=4, optimizer=still, init_from=str(tmp_path / "solid"))
    told = train(replace(run, gaussians=replace(HEAD, neighbours=1)), tmp_path / "told")
    asset = read_packed(things / "ball-3.npz")
    tokens = start.eval().encode(asset)
    assert told.gaussians.surroundings is not None
    torch.testing.assert_close(told.decode(tokens).means, start.decode(tokens).means, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_the_head_alone_learns_from_patches_that_are_kept(config, things, tmp_path, monkeypatch):
    """From the same as each time anew, for one decoding of each asset; and resumes exactly."""
    torch.manual_seed(0)
    AToken(SMALL).save_pretrained(tmp_path / "flat")
    assets = AssetsConfig(str(things), "train", SIDE, 2, 32)
    task = TaskConfig("3d-gaussians", tokens=2000, ratio=1.0, samples=2, assets=assets)
    run = replace(
        run_config(things, base=config, init_from=str(tmp_path / "flat"), log=replace(config.log, every=1)),
        frozen=("encoder", "proj", "decoder"),
        tasks=(task,),
    )
    encode, calls = AToken.encode_packed, []
    monkeypatch.setattr(AToken, "encode_packed", lambda *a, **k: calls.append(1) or encode(*a, **k))
    train(run, tmp_path / "whole")
    assert len(calls) == 3
    train(run, tmp_path / "parts", stop_after=2)
    train(run, tmp_path / "parts")
    decoded = GaussiansAlone._decoded
    monkeypatch.setattr(GaussiansAlone, "_decoded", lambda self, *a: self.kept.clear() or decoded(self, *a))
    train(run, tmp_path / "anew")
    assert terms(tmp_path / "whole") == terms(tmp_path / "parts") == terms(tmp_path / "anew")
    assert set(terms(tmp_path / "whole")[1]) >= {"3d-gaussians/render_l1", "3d-gaussians/render_log_mse"}


def test_the_head_alone_needs_the_rest_frozen(config, things):
    task = TaskConfig("3d-gaussians", tokens=400, ratio=1.0, assets=AssetsConfig(str(things)))
    with refused("3d-gaussians", "encoder", "proj", "decoder"):
        replace(config, tasks=(task,), frozen=("encoder", "proj"))
    replace(config, tasks=(task,), frozen=("encoder.", "proj.", "decoder."))
    sharded = replace(config.parallel, strategy="fsdp")
    with refused("3d-gaussians", "ddp"):
        replace(config, tasks=(task,), frozen=("encoder", "proj", "decoder"), parallel=sharded)
    with refused("3d-gaussians", "views"):
        replace(task, assets=AssetsConfig(str(things), views=0))


def test_what_is_no_packed_asset_is_one_sentence(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(
        tmp_path / "outside.npz",
        views=np.zeros((2, 32, 32, 3), np.uint8),
        held_out=np.zeros((1, 32, 32, 3), np.uint8),
        voxels8=np.array([[0, 0, 9]]),
        patch8=np.array([[0, 0, 0]]),
    )
    for name in ("other", "text", "outside"):
        with refused(f"{name}.npz"):
            AToken(replace(PRESETS["tiny"], gaussians=HEAD)).encode(tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError):
        read_packed(tmp_path / "none.npz")
    asset = PackedAsset("x", np.zeros((1, 16, 16, 3)), np.zeros((1, 16, 16, 3)), {})
    with refused("32"):
        asset.at(32)
