"""Shards from elsewhere: no name of one runs anything, and none costs memory that its bytes do not warrant."""

import gzip
import io
import os
import tarfile
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from atoken.core.errors import ReadError
from atoken.data import readers, tar_samples
from atoken.data.config import CropsConfig, ShardsConfig
from atoken.data.feeds import build_feed
from atoken.data.readers import caption_of, draw_box, picture_sample, read_sample
from atoken.data.shards import find_shards
from atoken.data.tar_samples import samples
from atoken.train.config import TaskConfig, read_config
from refusals import check_names, refused

pytest.importorskip("webdataset")
INPUTS = Path(__file__).parents[1] / "data/inputs/train"
CONFIG = ShardsConfig(("x",), resolution=(16, 64), workers=0)


def write_tar(path, files, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return str(path)


# Commands


@pytest.mark.parametrize("given", [".", "*.tar", "pipe[:]*.tar"])
def test_a_file_whose_name_looks_like_a_command_is_a_file(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    write_tar(tmp_path / "pipe:touch ran;.tar", {"a.txt": b"one"})
    (shard,) = find_shards([given])
    assert [sample["txt"] for sample in samples(shard)] == [b"one"]
    assert [path.name for path in tmp_path.iterdir()] == ["pipe:touch ran;.tar"]


RECIPE = """
model: tiny
steps: 9
tasks: [{task: image-reconstruction, ratio: 1, tokens: 9, shards: {shards: ["SHARDS"]}}]
optimizer: {warmup: 0}
"""


@pytest.mark.parametrize("shards", ["pipe:touch ran", "gs://bucket/a.tar", "s3://bucket/a.tar", "hf://a/b.tar"])
def test_a_recipe_that_would_run_a_program_is_refused_unless_it_is_allowed(atoken, tmp_path, monkeypatch, shards):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace("SHARDS", shards))
    with refused("recipe.yaml", shards, "--allow-commands", error=ReadError):
        read_config(path)
    assert read_config(path, allow_commands=True).tasks[0].shards.shards == (shards,)
    for arguments in (["--out", tmp_path / "out"], ["--dry-run"]):
        result = atoken("train", path, *arguments, "--device", "cpu")
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert "--allow-commands" in result.stderr
    assert not (tmp_path / "ran").exists()


def test_a_command_that_is_allowed_gives_samples(tmp_path):
    shard = write_tar(tmp_path / "a.tar", {"a.txt": b"one", "b.txt": b"two"})
    assert [sample["__key__"] for sample in samples(f"pipe:cat {shard}")] == ["a", "b"]


def test_an_address_is_no_command(tmp_path, monkeypatch):
    """webdataset puts it into a command line of curl."""
    shard = Path(write_tar(tmp_path / "a.tar", {"a.txt": b"one"}))
    asked = []
    monkeypatch.setattr(tar_samples, "urlopen", lambda url, timeout: asked.append(url) or shard.open("rb"))
    address = "https://host/a'; touch ran; '.tar"
    assert [sample["txt"] for sample in samples(address)] == [b"one"]
    assert asked == [address]


# Sizes


def header(name, size, kind=tarfile.REGTYPE):
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = size, kind
    return entry.tobuf(tarfile.GNU_FORMAT)


def test_a_member_with_holes_is_not_filled(tmp_path):
    block = bytearray(header("a.jpg", 0, tarfile.GNUTYPE_SPARSE))
    block[483:495] = b"%011o\0" % 5_000_000_000  # the real size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    (tmp_path / "a.tar").write_bytes(bytes(block) + bytes(1024))
    with refused("a.tar", "a.jpg", error=ReadError):
        list(samples(str(tmp_path / "a.tar")))


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_announced_sizes_are_checked_before_anything_is_read(tmp_path, monkeypatch, kind, name):
    content = header("a.jpg", 3_000_000_000, kind) + bytes(4096)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with refused(name, "3,000,000,000", error=ReadError):
        list(samples(str(tmp_path / name)))


def test_gzip_is_read_under_its_own_name_and_bounded_by_its_size(tmp_path):
    write_tar(tmp_path / "a.tar.gz", {"a.txt": b"one"}, "w:gz")
    assert [sample["txt"] for sample in samples(str(tmp_path / "a.tar.gz"))] == [b"one"]
    os.rename(tmp_path / "a.tar.gz", tmp_path / "a.tar")
    with refused("a.tar", error=ReadError):
        list(samples(str(tmp_path / "a.tar")))
    write_tar(tmp_path / "b.tar.gz", {"b.jpg": bytes(20_000_000)}, "w:gz")
    with refused("b.tar.gz", "20,000,000", error=ReadError):
        list(samples(str(tmp_path / "b.tar.gz")))


def test_a_shard_that_ends_early_is_one_sentence(tmp_path):
    path = Path(write_tar(tmp_path / "a.tar", {"a.txt": b"one" * 1000, "b.txt": b"two" * 1000}))
    whole = path.read_bytes()
    for end in range(1, 7000, 331):
        path.write_bytes(whole[:end])
        try:
            found = list(samples(str(path)))
        except ReadError as error:
            check_names(str(error), "a.tar")
        else:  # tar has no other end than zeros or the file's
            assert all(sample["txt"] in (b"one" * 1000, b"two" * 1000) for sample in found)


# Names and captions


def read(name, *, task="image-captions", seed=0):
    """Captions of one epoch of an input, and the messages about what was left out."""
    config = replace(CONFIG, shards=(str(INPUTS / name),))
    feed = build_feed(TaskConfig(task, tokens=64, ratio=1.0, samples=1, shards=config), seed)
    return feed.batch(0)


def test_a_byte_order_mark_is_no_part_of_a_caption():
    assert read("cap_bom.tar").captions == ["a red chair"]


def test_a_caption_in_latin_1_is_named_and_hurts_no_task_without_captions():
    with refused("cap_latin.tar", "a.txt", "UTF-8"):
        read("cap_latin.tar")
    assert [sample.caption for sample in read("cap_latin.tar", task="image-reconstruction").samples] == [None]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
def test_captions_of_any_unicode(encoding):
    raw = {"__key__": "a", "txt": "ein roter Stuhl, 红椅子\n".encode(encoding)}
    assert caption_of(raw, needed=True) == "ein roter Stuhl, 红椅子"


def test_a_missing_caption_leaves_the_sample_out():
    with refused("a.txt", error=ReadError):
        caption_of({"__key__": "a"}, needed=True)
    assert caption_of({"__key__": "a"}, needed=False) is None


def test_names_with_dots_keep_their_pictures_and_captions(tmp_path):
    found = list(samples(str(INPUTS / "somedots.tar")))
    assert {(s["__key__"], *sorted(s)[1:]) for s in found} >= {("k0", "jpg"), ("x.y", "jpg", "txt")}
    assert len(found) == 7
    files = {"v1.0.jpg": b"1", "v1.0.txt": b"one", "v1.1.jpg": b"2", "a.jpg": b"3", "a.seg.png": b"4"}
    found = list(samples(write_tar(tmp_path / "a.tar", files)))
    assert [(s["__key__"], s["jpg"], s.get("txt")) for s in found] == [
        ("v1.0", b"1", b"one"),
        ("v1.1", b"2", None),
        ("a", b"3", None),
    ]


# Budgets


def test_no_picture_is_larger_than_the_budget_by_rounding():
    rng = np.random.default_rng(0)
    assert len(picture_sample(np.zeros((329, 1814, 3), np.uint8), (64, 512), 549, rng, None).coords) <= 549
    for height, width, budget in rng.integers(1, (400, 400, 300), (3000, 3)):
        height, width = max(16, height), max(16, width)
        box = draw_box(height, width, budget, rng)
        rows, columns = ((part.stop - part.start) / 16 for part in box)
        assert 1 <= rows * columns <= budget
        assert rows % 1 == columns % 1 == 0
        assert all(0 <= part.start < part.stop <= side for part, side in zip(box, (height, width), strict=True))
        if height // 16 * (width // 16) <= budget:
            assert (rows, columns) == (height // 16, width // 16)


class Video:
    """``real`` frames, numbered, of which the header says ``hinted``."""

    def __init__(self, real, hinted, start=0.0):
        self.facts = type("Facts", (), {"fps": 10.0, "frames": hinted})()
        self.real, self.first = real, max(0, round(start * 10 + 0.5))
        if start and self.first >= real:
            raise ValueError(f"has no frame between {start} s and its end")

    def __iter__(self):
        for number in range(self.first, self.real):
            yield type("Frame", (), {"pixels": np.full((16, 16, 3), number, np.uint8)})()


@pytest.mark.parametrize("hinted", [None, 0, 12, 30, 10**9])
def test_counts_of_a_header_are_hints(monkeypatch, hinted):
    monkeypatch.setattr(readers, "open_video", lambda path, start=0.0: Video(30, hinted, start))
    rng, firsts = np.random.default_rng(0), set()
    for _ in range(60):
        frames = [int(frame[0, 0, 0]) for frame in readers._draw_frames("x", 4, 2, rng)]
        assert frames == list(range(frames[0], frames[0] + 8, 2))
        firsts.add(frames[0])
    assert len(firsts) > 3


def test_a_video_without_frames_is_one_sentence(monkeypatch):
    monkeypatch.setattr(readers, "open_video", lambda path, start=0.0: Video(0, 30, 0.0))
    with refused("frames", error=ReadError):
        readers._draw_frames("x", 4, 1, np.random.default_rng(0))


def test_what_a_decoder_raises_leaves_the_sample_out(tmp_path, monkeypatch, caplog):
    stream = io.BytesIO()
    from PIL import Image

    Image.new("RGB", (32, 32)).save(stream, "PNG")
    shard = write_tar(tmp_path / "a.tar", {"bad.png": b"bad", "good.png": stream.getvalue()})
    read_image = readers.read_image

    def fragile(data):
        if data == b"bad":
            raise IndexError("list index out of range")
        return read_image(data)

    monkeypatch.setattr(readers, "read_image", fragile)
    task = TaskConfig("image-reconstruction", tokens=4, ratio=1.0, shards=replace(CONFIG, shards=(shard,)))
    feed = build_feed(task, 0)
    assert all(bool((sample.packed.feats == -1).all()) for sample in [feed.batch(0)])
    assert any("bad" in record.message for record in caplog.records)


def test_an_asset_that_is_too_large_is_left_out(monkeypatch):
    sample = picture_sample(np.zeros((64, 64, 3), np.uint8), (64, 64), 16, np.random.default_rng(0), None)
    monkeypatch.setattr(readers, "read_packed", lambda data, name: None)
    monkeypatch.setattr(readers, "asset_sample", lambda *args: sample)
    with refused("sample a", "16", "9", error=ReadError):
        read_sample({"__key__": "a", "npz": b""}, CONFIG, 9, np.random.default_rng(0), captions=False)


# Seeds


def batches(task, rank=0, count=3):
    feed = build_feed(task, 0, rank, 4)
    return [(batch.packed.feats, batch.seed) for batch in (feed.batch(number) for number in range(count))]


def different(*lists):
    every = [batch for each in lists for batch in each]
    for number, (feats, seed) in enumerate(every):
        for other, (others, noise) in enumerate(every[:number]):
            assert seed != noise, (number, other)
            assert feats.shape != others.shape or not bool((feats == others).all()), (number, other)


@pytest.mark.parametrize("source", ["crops", "shards"])
def test_no_two_tasks_and_ranks_have_the_same_batches(folder, tmp_path, source):
    """Rank r's first batch was rank 0's batch r, and those of all tasks on one collection were the same."""
    rng = np.random.default_rng(0)
    if source == "crops":
        data = {"crops": CropsConfig(str(folder), (32,), (1.0,))}
    else:
        from PIL import Image

        for number in range(4):  # one for each rank
            files = {}
            for name in "abcdef":
                stream = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(stream, "PNG")
                files |= {f"{name}.png": stream.getvalue(), f"{name}.txt": b"x"}
            write_tar(tmp_path / f"shard-{number}.tar", files)
        data = {"shards": replace(CONFIG, shards=(str(tmp_path),), resolution=(16, 40))}
    tasks = [TaskConfig(name, tokens=16, ratio=1.0, **data) for name in ("image-reconstruction", "image-captions")]
    different(*(batches(task, rank) for task in tasks for rank in range(4)))


def test_every_epoch_and_task_has_an_order_of_its_own(tmp_path):
    from atoken.data.shards import Cursor, stream

    shards = [write_tar(tmp_path / f"{n}.tar", {f"{n}.txt": b"x"}) for n in range(8)]
    orders = {}
    for seed in ((0, 1), (0, 2)):
        found = stream(shards, 0, 1, seed, 4, Cursor(), lambda raw, rng: raw["__key__"])
        orders[seed] = [key for key, _ in islice(found, 16)]
    first, second = orders.values()
    assert first != second
    assert first[:8] != first[8:]
    assert sorted(first[:8]) == sorted(first[8:])
