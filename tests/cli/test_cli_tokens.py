"""``atoken tokens``: token files and shards into one another, without loss."""

import pytest

from atoken import ShardWriter, Tokens, TokenShard, TokenShards
from refusals import check_names
from token_samples import picture, sample, solid, video

SAMPLES = [sample(0), sample(1, video(1)), sample(2, solid(2, "discrete")), sample(3)]


def written(path, samples):
    with ShardWriter(path) as writer:
        for each in samples:
            writer.write(each)
    return path


def all_of(path):
    shards = TokenShards(path)
    return [shards[number] for number in range(len(shards))]


def test_shards_are_merged_and_divided_without_loss(atoken, tmp_path):
    parts = written(tmp_path / "a.atoks", SAMPLES[:1]), written(tmp_path / "b.atoks", SAMPLES[1:])
    assert atoken("tokens", *parts, "--out", tmp_path / "all.atoks").exit_code == 0
    assert (tmp_path / "all.atoks").read_bytes() == written(tmp_path / "same.atoks", SAMPLES).read_bytes()
    assert atoken("tokens", tmp_path / "all.atoks", "--out", tmp_path / "parts", "--per-shard", 3).exit_code == 0
    assert all_of(tmp_path / "parts") == SAMPLES
    assert [len(TokenShard(path)) for path in sorted((tmp_path / "parts").iterdir())] == [3, 1]


def test_token_files_to_a_shard_and_back(atoken, tmp_path):
    tokens = {"a/one": picture(1), "a/two": video(2), "three": solid(3)}
    for key, each in tokens.items():
        (tmp_path / "in" / key).parent.mkdir(parents=True, exist_ok=True)
        each.save(tmp_path / "in" / f"{key}.atok")
    assert atoken("tokens", tmp_path / "in", "--out", tmp_path / "all.atoks").exit_code == 0
    assert {each.key: each.tokens for each in all_of(tmp_path / "all.atoks")} == tokens
    out = tmp_path / "out"
    assert atoken("tokens", tmp_path / "all.atoks", "--format", "atok", "--out", out).exit_code == 0
    for key, each in tokens.items():
        assert Tokens.load(out / f"{key}.atok") == each
    again = ("tokens", tmp_path / "all.atoks", "--format", "atok", "--out", out)
    assert atoken(*again).exit_code == 0  # what a run that was cut off has left counts
    other = bytes(1)
    (out / "a/one.atok").write_bytes(other)
    result = atoken(*again)
    assert result.exit_code == 2
    check_names(result.stderr.splitlines()[0], "one.atok")
    assert (out / "a/one.atok").read_bytes() == other


def test_parts_are_taken_by_key_and_by_number(atoken, tmp_path):
    path = written(tmp_path / "a.atoks", [*SAMPLES, sample(7, key="other/7")])
    out = tmp_path / "b.atoks"
    assert atoken("tokens", path, "--keys", "class/*", "--part", "1:3", "--out", out).exit_code == 0
    assert all_of(out) == SAMPLES[1:3]
    assert atoken("tokens", path, "--keys", "other/*", "--keys", "*/003", "--out", out).exit_code == 0
    assert [each.key for each in all_of(out)] == ["class/003", "other/7"]


def test_a_damaged_sample_is_named_and_left_out(atoken, tmp_path):
    path = written(tmp_path / "a.atoks", SAMPLES)
    with TokenShard(path) as shard:
        bad = shard.record(1).data
    path.write_bytes(path.read_bytes().replace(bad[-64:], bytes(64)))
    result = atoken("tokens", path, "--out", tmp_path / "b.atoks")
    assert result.exit_code == 2
    check_names(result.stderr, "a.atoks", "class/001")
    assert all_of(tmp_path / "b.atoks") == [SAMPLES[0], *SAMPLES[2:]]


@pytest.mark.parametrize("key", ["../out", "/etc/out", "a/../../out", "C:out", "..\\out"])
def test_a_key_that_leads_out_of_the_folder(key, atoken, tmp_path):
    path = written(tmp_path / "in" / "a.atoks", [sample(0, key=key)])
    result = atoken("tokens", path, "--format", "atok", "--out", tmp_path / "below" / "out")
    assert result.exit_code == 2
    check_names(result.stderr, key)
    assert not list(tmp_path.rglob("*.atok"))


REFUSED = [
    (["--part", "1"], "--part"),
    (["--part", "-1:2"], "--part"),
    (["--format", "npz"], "--format"),
    (["--per-shard", "0"], "--per-shard"),
    (["--format", "atok"], "--format"),
    (["--keys", "nothing*"], "b.atoks"),
]


@pytest.mark.parametrize(("options", "named"), REFUSED, ids=[named + str(i) for i, (_, named) in enumerate(REFUSED)])
def test_options_that_cannot_be(options, named, atoken, tmp_path):
    path = written(tmp_path / "a.atoks", SAMPLES)
    result = atoken("tokens", path, *options, "--out", tmp_path / "b.atoks")
    assert result.exit_code == 2
    check_names(result.stderr, named)
    assert [file.name for file in tmp_path.iterdir()] == ["a.atoks"]


def test_the_result_is_no_input(atoken, tmp_path):
    path = written(tmp_path / "a.atoks", SAMPLES)
    result = atoken("tokens", tmp_path, "--out", path)
    assert result.exit_code == 2
    check_names(result.stderr, "a.atoks")
    assert all_of(path) == SAMPLES


def test_info_of_a_shard(atoken, tmp_path):
    result = atoken("info", written(tmp_path / "a.atoks", SAMPLES))
    assert result.exit_code == 0
    for told in ("token shard", "class/000", "class/003", "4"):
        assert told in result.stdout


def test_export(atoken, tmp_path):
    path = written(tmp_path / "a.atoks", SAMPLES[:1])
    result = atoken("export", path, "--format", "numpy", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out" / "values.npy").is_file()
    result = atoken("export", path, "--format", "mar", "--out", tmp_path / "mar")
    assert result.exit_code == 2
    check_names(result.stderr, "mar", "--flip")
