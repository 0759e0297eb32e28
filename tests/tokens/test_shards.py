"""Token shards: what goes in comes out, by key and in any order, and what is damaged is refused by its key alone."""

import hashlib
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from atoken import ShardWriter, Tokens, TokenSample, TokenShard, TokenShards
from atoken.core.errors import ReadError
from atoken.tokens.shards import MAPPED, shard_name, write_shards
from refusals import refused
from token_samples import picture, sample, solid, video

SAMPLES = [
    sample(0),
    sample(1, picture(1, "discrete"), label=None, captions=(), extras={}),
    sample(2, video(2)),
    sample(3, solid(3, "discrete"), label=-1),
    sample(4, picture(4, values=torch.ones(6, 48, dtype=torch.bfloat16)), key="ein Schlüssel mit 'allem' \"darin\""),
]


def written(path, samples=SAMPLES):
    with ShardWriter(path) as writer:
        for each in samples:
            writer.write(each)
    return path


def test_samples_come_back_by_number_and_by_key(tmp_path):
    with TokenShard(written(tmp_path / "a.atoks")) as shard:
        assert list(shard) == SAMPLES
        assert shard.keys == [each.key for each in SAMPLES]
        assert shard.lengths == [len(each.tokens) for each in SAMPLES]
    shards = TokenShards(tmp_path)
    assert all(shards[each.key] == each for each in reversed(SAMPLES))


def test_equal_samples_give_equal_bytes(tmp_path):
    again = [replace(each) for each in SAMPLES]
    assert written(tmp_path / "a.atoks").read_bytes() == written(tmp_path / "b.atoks", again).read_bytes()


def test_any_safetensors_reader_opens_a_shard_and_a_sample_is_a_token_file(tmp_path):
    path = written(tmp_path / "a.atoks")
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == {each.key for each in SAMPLES}
        for each in SAMPLES:
            (tmp_path / "one.atok").write_bytes(file.get_tensor(each.key).numpy().tobytes())
            assert Tokens.load(tmp_path / "one.atok") == each.tokens


def test_a_sample_is_read_without_the_others(tmp_path):
    path = written(tmp_path / "a.atoks")
    data = bytearray(path.read_bytes())
    with TokenShard(path) as shard:
        ends = [shard.record(number).data for number in (0, 4)]
    first = data.index(ends[0])
    data[first + len(ends[0]) : data.index(ends[1])] = bytes(data.index(ends[1]) - first - len(ends[0]))
    path.write_bytes(data)  # all but the first and the last are gone
    with TokenShard(path) as shard:
        assert (shard[0], shard[4]) == (SAMPLES[0], SAMPLES[4])
        with refused("a.atoks", SAMPLES[2].key):
            shard[2]


def test_every_flipped_bit_is_noticed(tmp_path):
    path = written(tmp_path / "a.atoks", SAMPLES[:2])
    sound = path.read_bytes()
    for at in np.random.default_rng(0).integers(len(sound), size=150).tolist() + list(range(0, 600, 7)):
        changed = bytearray(sound)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        with refused("a.atoks"), TokenShard(path) as shard:
            list(shard)


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_shard_that_is_cut_off(length, tmp_path):
    path = written(tmp_path / "a.atoks")
    path.write_bytes(path.read_bytes()[:length])
    with refused("a.atoks"):
        TokenShard(path)


def test_bytes_after_the_end(tmp_path):
    path = written(tmp_path / "a.atoks")
    path.write_bytes(path.read_bytes() + b"more")
    with refused("a.atoks"):
        TokenShard(path)


def test_samples_that_changed_places(tmp_path):
    """Each is sound by itself, and under the other's key."""
    samples = [sample(0), sample(1)]
    path = written(tmp_path / "a.atoks", samples)
    one, other = (each.to_bytes() for each in samples)
    assert len(one) == len(other)
    path.write_bytes(path.read_bytes().replace(one + other, other + one))
    with refused("a.atoks", samples[1].key), TokenShard(path) as shard:
        shard[1]


def with_header(path, change):
    """A shard with another header under a checksum that fits."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    header["__metadata__"]["checksum"] = "0" * 64
    text = json.dumps(header, separators=(",", ":")).encode()
    text = text.replace(b"0" * 64, hashlib.sha256(text).hexdigest().encode())
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    return path


def test_places_that_are_no_integers(tmp_path):
    end = len(sample(0).to_bytes())
    for place in ([0.0, end], [0, float(end)], [False, end]):
        path = written(tmp_path / "a.atoks", [sample(0)])
        with_header(path, lambda header, place=place: header[sample(0).key].update(data_offsets=place))
        with refused("a.atoks", sample(0).key, error=ReadError):
            TokenShard(path)


def test_lengths_that_the_bytes_cannot_hold(tmp_path):
    for length in (0, -1, 1.0, True, 10**9, 10**400):
        path = written(tmp_path / "a.atoks", [sample(0)])
        with_header(path, lambda header, n=length: header["__metadata__"].update(tokens=json.dumps([n])))
        with refused("a.atoks", error=ReadError):
            TokenShard(path)


def test_a_new_folder_of_shards_appears_when_it_is_whole(tmp_path):
    def records():
        yield from (record_of(sample(number)) for number in range(5))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path / "new", records(), 2)
    assert list(tmp_path.iterdir()) == []
    assert write_shards(tmp_path / "none", [], 2) == []
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_no_shards(tmp_path):
    picture().save(tmp_path / "a.atoks")
    with refused("a.atoks", "shard"):
        TokenShard(tmp_path / "a.atoks")
    with refused("none.atoks", error=FileNotFoundError):
        TokenShards(tmp_path / "none.atoks")
    (tmp_path / "empty").mkdir()
    with refused("empty", error=FileNotFoundError):
        TokenShards(tmp_path / "empty")


def test_a_newer_version(tmp_path):
    path = written(tmp_path / "a.atoks")
    path.write_bytes(path.read_bytes().replace(b'"version":"1"', b'"version":"2"', 1))
    with refused("a.atoks", "2"):
        TokenShard(path)


BAD = [
    ({"key": ""}, "key"),
    ({"key": "a\nb"}, "key"),
    ({"key": "\udc80"}, "key"),
    ({"key": "__metadata__"}, "key"),
    ({"key": "x" * 1025}, "key"),
    ({"label": 1.5}, "label"),
    ({"label": True}, "label"),
    ({"label": 1 << 63}, "label"),
    ({"captions": "one"}, "captions"),
    ({"captions": ("\udc80",)}, "captions"),
    ({"extras": {"embedding": np.zeros(3)}}, "embedding"),
    ({"extras": {"embedding": torch.zeros(0)}}, "embedding"),
    ({"extras": {"embedding": torch.zeros(3, dtype=torch.complex64)}}, "embedding"),
    ({"tokens": None}, "NoneType"),
]


@pytest.mark.parametrize(("change", "named"), BAD, ids=[f"{i} {named}" for i, (_, named) in enumerate(BAD)])
def test_samples_that_cannot_be(change, named):
    given = {"key": "a", "tokens": picture()} | change
    with refused(named):
        TokenSample(**given)


def test_two_samples_of_one_key(tmp_path):
    with refused("a.atoks", "class/000"):
        written(tmp_path / "a.atoks", [sample(0), sample(0)])
    assert list(tmp_path.iterdir()) == []
    written(tmp_path / "a.atoks", [sample(0)])
    written(tmp_path / "b.atoks", [sample(1), sample(0)])
    with refused("a.atoks", "b.atoks", "class/000"):
        TokenShards(tmp_path)["class/001"]


def test_no_samples(tmp_path):
    with refused("a.atoks"):
        written(tmp_path / "a.atoks", [])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_one_dataset(tmp_path):
    samples = [sample(number) for number in range(7)]
    paths = write_shards(tmp_path, (record_of(each) for each in samples), 3)
    assert [path.name for path in paths] == [shard_name(number) for number in range(3)]
    shards = TokenShards(tmp_path)
    assert [shards[number] for number in range(-7, 7)] == samples * 2
    assert shards.key(5) == samples[5].key
    for number in (7, -8):
        with pytest.raises(IndexError):
            shards[number]
    with pytest.raises(KeyError):
        shards["none"]
    assert pickle.loads(pickle.dumps(shards))[4] == samples[4]
    with refused(paths[0].name):
        write_shards(tmp_path, (record_of(each) for each in samples), 3)


def record_of(each):
    from atoken.tokens.shards import Record

    return Record(each.key, each.to_bytes(), len(each.tokens))


def test_many_shards_hold_few_files_open(tmp_path):
    for number in range(MAPPED + 5):
        written(tmp_path / shard_name(number), [sample(number)])
    shards = TokenShards(tmp_path)
    assert [each.key for each in (shards[i] for i in range(len(shards)))] == [shards.key(i) for i in range(len(shards))]
    assert sum(shard._map is not None for shard in shards.shards) == MAPPED
    assert shards[0].key == "class/000"


def write_part(folder, number):
    written(folder / shard_name(number), [sample(10 * number + i) for i in range(10)])


@pytest.mark.slow
def test_several_processes_write_one_folder(tmp_path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(write_part, [(tmp_path, number) for number in range(4)])
    assert [TokenShards(tmp_path)[i] for i in range(40)] == [sample(i) for i in range(40)]


KILLED = """
import sys, time
sys.path[:0] = [{tests!r}]
from token_samples import sample
from atoken import ShardWriter
with ShardWriter(sys.argv[1]) as writer:
    for number in range(100):
        writer.write(sample(number))
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_no_shard_and_the_others_whole(tmp_path):
    written(tmp_path / "a.atoks", [sample(0)])
    code = KILLED.format(tests=os.path.dirname(os.path.dirname(__file__)))
    command = [sys.executable, "-c", code, str(tmp_path / "b.atoks")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    assert len(TokenShards(tmp_path)) == 1
    written(tmp_path / "b.atoks", [sample(1)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.atoks", "b.atoks"]
