"""Shards: packed from a folder, read without overlap, resumed exactly, any modality in one batch."""

import io
import json
import multiprocessing
import os
import tarfile
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from atoken import write_image
from atoken.data import pack as pack_data
from atoken.data.batch import Sample, fill, pack
from atoken.data.config import ShardsConfig
from atoken.data.pack import pack_folder
from atoken.data.readers import draw_scale, picture_sample, read_sample
from atoken.data.shards import Cursor, ShardFeed, find_shards, stream
from atoken.nn.packed import dense_coords
from atoken.train.config import TaskConfig
from atoken.train.trainer import train
from refusals import check_names, refused

from .conftest import terms

pytest.importorskip("webdataset")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    rng = np.random.default_rng(0)
    for number in range(12):
        path = folder / f"{'ab'[number % 2]}/{number}.png"
        write_image(path, rng.integers(0, 256, (40 + number, 64, 3), dtype=np.uint8))
        path.with_suffix(".txt").write_text(f"number {number}\n")
    return folder


@pytest.fixture
def shards(pictures, tmp_path):
    pack_folder(pictures, tmp_path / "shards", shard_size=30_000)
    return tmp_path / "shards"


def test_a_folder_becomes_shards(pictures, tmp_path, atoken):
    (pictures / "a/2.json").write_text('{"label": 2}')
    result = atoken("data", "pack", pictures, "--out", tmp_path / "out", "--shard-size", 30_000)
    assert result.exit_code == 0, result.output
    index = json.loads((tmp_path / "out/index.json").read_text())["samples"]
    assert sum(index.values()) == 12
    check_names(result.stdout, "12 samples", f"{len(index)} shards", tmp_path / "out")
    names = {}
    for shard in sorted((tmp_path / "out").glob("*.tar")):
        with tarfile.open(shard) as tar:
            names |= {entry.name: tar.extractfile(entry).read() for entry in tar}
    assert len(names) == 25
    assert names["a/2.txt"] == b"number 2\n"
    assert json.loads(names["a/2.json"]) == {"label": 2}
    assert names["a/2.png"] == (pictures / "a/2.png").read_bytes()
    again = atoken("data", "pack", pictures, "--out", tmp_path / "out")
    assert again.exit_code == 2
    check_names(again.stderr, tmp_path / "out", "--out")
    empty = atoken("data", "pack", tmp_path / "out", "--out", tmp_path / "other")
    assert empty.exit_code == 2
    assert not (tmp_path / "other").exists()


def packed(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_packing_continues_after_a_kill_to_the_same_bytes(pictures, tmp_path, monkeypatch):
    pack_folder(pictures, tmp_path / "whole", shard_size=30_000)
    whole = packed(tmp_path / "whole")
    assert len(whole) > 3
    add, added = pack_data._add, []

    def killed(tar, name, data):
        added.append(name)
        if len(added) == 15:
            raise KeyboardInterrupt
        add(tar, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(pack_data, "_add", killed)
        with pytest.raises(KeyboardInterrupt):
            pack_folder(pictures, tmp_path / "out", shard_size=30_000)
    begun = [name for name in packed(tmp_path / "out") if name.endswith(".tar")]
    assert 0 < len(begun) < len(whole) - 1
    with refused(tmp_path / "out", "--out"):  # not those of this command
        pack_folder(pictures, tmp_path / "out", shard_size=40_000)
    os.utime(tmp_path / "out" / begun[0], (1, 1))
    result = pack_folder(pictures, tmp_path / "out", shard_size=30_000)
    assert packed(tmp_path / "out") == whole
    assert (result.samples, result.captions) == (12, 12)
    assert (tmp_path / "out" / begun[0]).stat().st_mtime == 1  # not written again


@pytest.mark.slow
def test_packing_again_writes_what_is_missing_alone(pictures, tmp_path, atoken):
    command = ("data", "pack", pictures, "--out", tmp_path / "out", "--shard-size", 30_000)
    first = atoken(*command)
    whole = packed(tmp_path / "out")
    lost, *kept = sorted((tmp_path / "out").glob("*.tar"))
    for path in kept:
        os.utime(path, (1, 1))
    lost.unlink()
    for _ in range(2):
        again = atoken(*command)
        assert again.exit_code == 0, again.output
        assert again.stdout == first.stdout
        assert packed(tmp_path / "out") == whole
        assert all(path.stat().st_mtime == 1 for path in kept)
    (pictures / "a/0.txt").write_text("another caption")
    check_names(atoken(*command).stderr, tmp_path / "out", "--out")


def test_other_files_do_not_continue_a_packing(pictures, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "unlink", lambda *_, **__: None)
        pack_folder(pictures, tmp_path / "out")
    (pictures / "a/0.txt").write_text("another caption")
    with refused(tmp_path / "out", "--out"):
        pack_folder(pictures, tmp_path / "out")


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_a_number_of_shards_may_be_asked_for(pictures, tmp_path, atoken, count):
    result = atoken("data", "pack", pictures, "--out", tmp_path / "out", "--shards", count)
    assert result.exit_code == 0, result.output
    index = json.loads((tmp_path / "out/index.json").read_text())["samples"]
    assert (len(index), sum(index.values())) == (count, 12)
    assert max(index.values()) <= 12 / count + 2


def test_more_shards_than_files_are_refused(pictures, tmp_path):
    with refused("12", "13"):
        pack_folder(pictures, tmp_path / "out", shards=13)


def shard_feed(config, tokens, seed=0, task="image-reconstruction", **place):
    return ShardFeed(TaskConfig(task, tokens=tokens, ratio=1.0, shards=config), seed, **place)


def captions(feed, count):
    return [sample.caption for number in range(count) for sample in feed.batch(number).samples]


def test_an_epoch_gives_every_sample_once_over_ranks_and_workers(shards):
    names = find_shards([str(shards)])
    read = lambda raw, rng: Sample("image", torch.zeros(1, 768), dense_coords((1, 1, 1, 1)), (1, 1, 1, 1), raw["txt"])  # noqa: E731
    seen = []
    for index in range(4):
        for sample, cursor in stream(names, index, 4, (0, 0), 4, Cursor(), read):
            if cursor["epoch"]:
                break
            seen.append(sample.caption)
    assert sorted(seen) == sorted(f"number {number}\n".encode() for number in range(12))


def test_a_feed_goes_on_exactly_where_it_stood(shards):
    config = ShardsConfig((str(shards),), resolution=(16, 48), buffer=4, workers=0)
    whole = shard_feed(config, 20, seed=3)
    batches = [whole.batch(number) for number in range(12)]
    assert max(len(batch.packed.coords) for batch in batches) <= 20
    for at in (1, 5, 8):
        later = shard_feed(config, 20, seed=3, cursor=batches[at - 1].cursor)
        for expected in batches[at : at + 3]:
            found = later.batch(0)
            assert torch.equal(found.packed.feats, expected.packed.feats)
            assert found.seed == expected.seed
            assert found.captions == expected.captions
            assert found.cursor == expected.cursor


@pytest.mark.slow
def test_workers_read_the_same_as_their_streams(shards):
    config = ShardsConfig((str(shards),), resolution=(16, 48), workers=2)
    feed = shard_feed(config, 40, seed=3)
    first = [feed.batch(number) for number in range(5)]
    resumed = shard_feed(config, 40, seed=3, cursor=first[2].cursor)
    for expected in first[3:]:
        assert torch.equal(resumed.batch(0).packed.feats, expected.packed.feats)
    streams = [islice(shard_feed(config, 40, seed=3).batches(worker), 2) for worker in (0, 1)]
    for expected, found in zip(first, [next(streams[0]), next(streams[1]), next(streams[0])], strict=False):
        assert found.captions == expected.captions


def test_another_number_of_ranks_begins_the_epoch_anew(shards):
    config = ShardsConfig((str(shards),), resolution=(16, 48), workers=0)
    feed = shard_feed(config, 40, seed=0, rank=1, world=2)
    cursor = feed.batch(0).cursor
    assert shard_feed(config, 40, seed=0, cursor=cursor).cursors == [Cursor(epoch=cursor["streams"][0]["epoch"])]


def test_files_that_share_a_name_are_samples_of_their_own(tmp_path):
    folder, names = tmp_path / "in", []
    for name in ("a.png", "a.jpg", "a-1.png", "b.c.png", "b_c.png", ".hidden.png", ".cache/d.png"):
        write_image(folder / name, np.full((16, 16, 3), 99, np.uint8))
    (folder / "a.txt").write_text("two kinds of file")
    assert pack_folder(folder, tmp_path / "out").samples == 5
    with tarfile.open(tmp_path / "out/shard-000000.tar") as tar:
        names = sorted(entry.name for entry in tar if not entry.name.endswith("txt"))
    assert names == ["a-1.png", "a-2.png", "a.jpg", "b_c-1.png", "b_c.png"]
    feed = shard_feed(ShardsConfig((str(tmp_path / "out"),), resolution=(16, 16), workers=0), 5, seed=0)
    assert sorted(map(str, (s.caption for s in feed.batch(0).samples))) == ["None"] * 3 + ["two kinds of file"] * 2


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_samples_are_left_out_and_named(pictures, tmp_path, caplog, workers):
    (pictures / "a/0.png").write_bytes((pictures / "a/0.png").read_bytes()[:200])
    (pictures / "a/2.png").write_bytes(b"")
    (pictures / "a/4.txt").write_bytes(b"\xff")
    pack_folder(pictures, tmp_path / "out")
    config = ShardsConfig((str(tmp_path / "out"),), resolution=(16, 16), workers=workers)
    feed = shard_feed(config, 40, task="image-captions")
    seen = [caption for number in range(2) for caption in feed.batch(number).captions]
    assert set(seen) <= {f"number {number}" for number in range(12) if number not in (0, 2, 4)}
    if not workers:
        messages = sorted({record.message for record in caplog.records})
        assert len(messages) == 3
        for name in ("a/0", "a/2", "a/4.txt"):
            assert any(name in message for message in messages)
        for message in messages:
            check_names(message, "shard-000000.tar")


@pytest.mark.parametrize("workers", [0, 1])
def test_shards_that_cannot_be_read_are_one_sentence(pictures, shards, tmp_path, workers):
    for path in pictures.rglob("*.png"):
        path.write_bytes(b"")
    pack_folder(pictures, tmp_path / "empty")
    config = ShardsConfig((str(tmp_path / "empty"),), workers=workers)
    with refused("shard-000000.tar"):
        shard_feed(config, 40, seed=0).batch(0)
    shard = shards / "shard-000000.tar"
    shard.write_bytes(shard.read_bytes()[:3000])
    with refused("shard-000000.tar"):
        shard_feed(replace(config, shards=(str(shard),)), 40, seed=0).batch(0)


@pytest.mark.skipif(not hasattr(os, "getpgid"), reason="process groups")
def test_workers_do_not_get_the_signals_that_end_a_run(shards):
    feed = shard_feed(ShardsConfig((str(shards),), resolution=(16, 48), workers=1), 40, seed=3)
    before = set(multiprocessing.active_children())
    feed.batch(0)
    (worker,) = set(multiprocessing.active_children()) - before
    assert os.getpgid(worker.pid) == worker.pid != os.getpgid(0)


def test_missing_and_too_few_shards(shards, tmp_path):
    with refused(tmp_path / "none", "data pack", error=FileNotFoundError):
        find_shards([str(tmp_path / "none")])
    with refused("64", "2"):
        shard_feed(ShardsConfig((str(shards),)), 40, seed=0, world=64)
    assert find_shards([f"file://{shards}"]) == find_shards([str(shards)])
    assert find_shards(["http://host/shard-{00..02}.tar"]) == [f"http://host/shard-0{n}.tar" for n in range(3)]


def test_pictures_only_shrink_and_fit_the_budget():
    rng = np.random.default_rng(0)
    scales = [draw_scale(200, 400, (64, 128), 10_000, rng) for _ in range(200)]
    assert 64 / 200 <= min(scales) < 0.36
    assert 0.6 < max(scales) <= 128 / 200
    assert all(draw_scale(50, 80, (64, 128), 10_000, rng) == 1.0 for _ in range(5))
    picture = rng.integers(0, 256, (300, 500, 3), dtype=np.uint8)
    for _ in range(5):
        sample = picture_sample(picture, (256, 512), 30, rng, None)
        assert len(sample.coords) == sample.grid[1] * sample.grid[2] <= 30


def test_voxels_come_from_their_views(tmp_path):
    views = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)
    voxels, patch = np.array([[1, 2, 3], [4, 5, 6]], np.uint8), np.array([[1, 1, 2], [0, 0, 1]], np.uint8)
    stream = io.BytesIO()
    np.savez(stream, views=views, held_out=views[:1], voxels32=voxels, patch32=patch)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/chair.npz").write_bytes(stream.getvalue())
    pack_folder(tmp_path / "in", tmp_path / "out")
    batch = shard_feed(ShardsConfig((str(tmp_path / "out"),), voxels=32, workers=0), 2, seed=0).batch(0)
    assert batch.packed.coords.tolist() == [[0, 0, 1, 2, 3], [0, 0, 4, 5, 6]]
    expected = torch.from_numpy(views[1, 16:32, 32:48].reshape(-1)).float() / 127.5 - 1
    assert torch.equal(batch.packed.feats[0], expected)
    assert (batch.samples[0].modality, batch.samples[0].views) == ("3d", None)
    config = ShardsConfig((str(tmp_path / "out"),), voxels=32, workers=0, views=3, view_size=32)
    targets = shard_feed(config, 2, seed=0).batch(0).samples[0].views
    assert targets.pictures.shape == (3, 3, 32, 32)


def test_clips_are_cut_from_video_files(tmp_path):
    frames = [Image.fromarray(np.full((48, 64, 3), 8 * number, np.uint8)) for number in range(20)]
    stream = io.BytesIO()
    av = pytest.importorskip("av")
    with av.open(stream, "w", format="mp4") as file:
        track = file.add_stream("libx264", rate=10, options={"qp": "0"})
        track.width, track.height, track.pix_fmt = 64, 48, "yuv444p"
        for frame in [*(av.VideoFrame.from_image(frame) for frame in frames), None]:
            file.mux(track.encode(frame))
    raw = {"__key__": "clip", "mp4": stream.getvalue(), "txt": b"grey"}
    config = ShardsConfig(("x",), resolution=(32, 32), frames=(8, 8), strides=(2, 2))
    sample = read_sample(raw, config, 64, np.random.default_rng(0))
    assert (sample.modality, sample.caption, sample.grid) == ("video", "grey", (2, 2, 2, 1))
    assert sample.feats.shape == (8, 3072)
    levels = (sample.feats[0].view(4, -1).mean(1) + 1) * 127.5
    assert (levels.diff() - 16).abs().max() < 3  # every second frame of a ramp of 8


def test_modalities_share_a_batch():
    still = Sample("image", torch.randn(4, 768), dense_coords((1, 2, 2, 1)), (1, 2, 2, 1))
    moving = Sample("video", torch.randn(8, 3072), dense_coords((2, 2, 2, 1)), (2, 2, 2, 1))
    batch = pack([still, moving, still])
    assert batch.packed.feats.shape == (16, 3072)
    assert batch.packed.lengths == [4, 8, 4]
    assert len(batch.pictures(batch.packed.feats)) == 2
    valid = batch.valid(batch.packed.feats)
    assert valid.sum(1).tolist() == [768] * 4 + [3072] * 8 + [768] * 4
    assert pack([still, still]).valid(torch.zeros(8, 768)) is None
    assert not bool(batch.packed.feats[:4, 768:].any())


def test_filling_keeps_the_order_and_loses_nothing():
    def sample(n):
        return Sample("image", torch.zeros(n, 768), dense_coords((1, 1, n, 1)), (1, 1, n, 1)), {"n": n}

    groups = list(fill((sample(n) for n in (3, 4, 2, 5, 1)), 7))
    assert [[len(s.coords) for s in group] for group, _ in groups] == [[3, 4], [2, 5], [1]]
    assert [cursor["n"] for _, cursor in groups] == [4, 5, 1]
    with refused("9", "7"):
        list(fill([sample(9)], 7))


@pytest.mark.slow
def test_a_run_on_shards_resumes_exactly(config, shards, tmp_path):
    source = ShardsConfig((str(shards),), resolution=(16, 48), buffer=4, workers=0)
    task = TaskConfig("image-reconstruction", tokens=20, ratio=1.0, shards=source)
    run = replace(config, tasks=(task,), start=None, log=replace(config.log, every=1))
    train(run, tmp_path / "whole")
    train(run, tmp_path / "parts", stop_after=2)
    train(run, tmp_path / "parts")
    assert terms(tmp_path / "whole") == terms(tmp_path / "parts")
