"""The feed of clips: the same batch for the same seed and number, of any size and length that is asked for."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from atoken.data.clips import Clips
from atoken.data.config import ClipsConfig
from atoken.data.feeds import build_feed
from atoken.train.config import TaskConfig
from atoken.train.start import start_model
from atoken.train.trainer import train
from refusals import refused

from .conftest import records


@pytest.fixture
def clips(folder):
    """Clips over the small collection, with one red object and one real video, whose frames grow brighter."""
    red = np.zeros((20, 16, 4), np.uint8)
    red[..., [0, 3]] = 255
    (folder / "cutouts.bin").write_bytes(red.tobytes() * 2)
    entry = {"split": "train", "offset": 0, "height": 20, "width": 16}
    (folder / "cutouts.json").write_text(json.dumps([entry, entry | {"split": "test", "offset": red.size}]))
    (folder / "videos").mkdir()
    video = np.arange(60, dtype=np.uint8)[:, None, None, None].repeat(40, 1).repeat(48, 2).repeat(3, 3)
    (folder / "videos/train.bin").write_bytes(video.tobytes())
    entry = {"file": "ramp.mp4", "offset": 0, "frames": 60, "height": 40, "width": 48}
    (folder / "videos/train.json").write_text(json.dumps([entry]))
    return ClipsConfig(str(folder), str(folder), str(folder / "videos"), 0.5, sizes=(16, 32), shares=(0.5, 0.5))


@pytest.mark.slow
def test_batches_are_the_same_in_every_run_and_differ_between_numbers_and_ranks(clips):
    feed, again = (Clips(clips, 32, seed=0) for _ in range(2))
    batches = [feed.batch(number) for number in range(10)]
    for number in (7, 0, 3):
        assert torch.equal(again.batch(number).packed.feats, batches[number].packed.feats)
    assert len({float(batch.packed.feats.sum()) for batch in batches}) == 10
    more = (feed.batch(number) for number in range(10, 30))
    assert {sample.grid for batch in (*batches, *more) for sample in batch.samples} == {
        (t, side, side, 1) for t in (2, 4) for side in (1, 2)
    }
    assert all(batch.packed.feats.shape == (32, 3072) for batch in batches)  # filled to the budget
    assert not torch.equal(Clips(clips, 32, seed=1).batch(0).packed.feats, batches[0].packed.feats)
    assert not torch.equal(Clips(clips, 32, seed=0, rank=1).batch(0).packed.feats, batches[0].packed.feats)


def test_real_clips_keep_one_stride_within_the_video(clips):
    feed = Clips(replace(clips, real=1.0, frames=(8,)), 32, seed=0)
    strides = set()
    for number in range(12):
        packed = feed.batch(number).packed
        for feats in packed.feats.split(packed.lengths):
            levels = ((feats.view(2, -1, 4, 768).mean((1, 3)) + 1) * 127.5).flatten()  # [t, patches, 4, 768] -> [8]
            step = levels.diff()
            assert torch.allclose(step, step[0].expand(7), atol=1e-2)
            strides.add(round(float(step[0])))
    assert {1, 2, 3} < strides <= set(range(1, 9))  # 60 frames hold 8 at a stride of 8


def test_made_clips_move_and_have_the_objects(clips):
    batches = [Clips(replace(clips, real=0.0), 32, seed=0).batch(number).packed.feats for number in range(6)]
    red = [((feats.view(-1, 3) - torch.tensor([1.0, -1, -1])).abs().max(1)[0] < 0.02).any() for feats in batches]
    moved = [(feats.view(-1, 4, 768)[:, 0] - feats.view(-1, 4, 768)[:, 3]).abs().mean() > 0.01 for feats in batches]
    assert any(red)
    assert all(moved)


@pytest.mark.slow
def test_a_run_learns_from_images_and_clips_in_turn(config, clips, tmp_path):
    video = TaskConfig("video-reconstruction", tokens=32, ratio=1.0, clips=clips)
    run = replace(config, steps=4, start=None, tasks=(*config.tasks, video))
    train(run, tmp_path / "run")
    assert all(name in records(tmp_path / "run")[-1] for name in ("image-reconstruction/l1", "video-reconstruction/l1"))


@pytest.mark.slow
def test_an_image_model_starts_with_stills(config, clips):
    feed = build_feed(config.tasks[0], 0)
    video = TaskConfig("video-reconstruction", tokens=32, ratio=1.0, clips=clips)
    for tasks, frames in ((config.tasks, 1), ((*config.tasks, video), 4)):
        rows = start_model(replace(config, tasks=tasks), feed).decoder.out_layer.weight.unflatten(0, (4, 768))
        assert int(sum(torch.equal(part, rows[0]) for part in rows)) == frames


def test_what_does_not_fit(clips, tmp_path):
    with refused("data.py", error=FileNotFoundError):
        Clips(replace(clips, path=str(tmp_path / "none")), 32, 0)
    with refused("captions.py", error=FileNotFoundError):
        Clips(replace(clips, cutouts=str(tmp_path / "none")), 32, 0)
    with refused("videos.py", error=FileNotFoundError):
        Clips(replace(clips, videos=str(tmp_path / "none")), 32, 0)
    with refused("16", "8"):
        Clips(clips, 8, 0)
    with refused("64", "16"):
        Clips(replace(clips, real=1.0, frames=(64,), sizes=(16,), shares=(1.0,)), 32, 0).batch(0)
    with refused("frames", "4"):
        replace(clips, frames=(6,))
    with refused("clips"):
        TaskConfig("image-reconstruction", tokens=32, ratio=1.0, clips=clips)
