"""Going on where an earlier run stopped."""

import os

import pytest

from atoken import Tokens
from atoken.cli.record import RECORD


@pytest.fixture
def encoded(atoken, tiny, picture, tmp_path):
    """Two pictures with their token files."""
    for name in ("a", "b"):
        picture(tmp_path / f"in/{name}.png")
    assert atoken("encode", tmp_path / "in", "--model", tiny, "--out", tmp_path / "out").exit_code == 0
    return tmp_path


def state(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != RECORD}


def test_finished_results_are_skipped(atoken, tiny, picture, encoded):
    before = state(encoded / "out")
    picture(encoded / "in/c.png")
    result = atoken("encode", encoded / "in", "--model", tiny, "--out", encoded / "out")
    assert result.exit_code == 0
    assert result.stdout.startswith("1 written, 2 skipped (already there; --overwrite writes them again), 6 tokens, ")
    after = state(encoded / "out")
    assert after.pop("c.atok")
    assert after == before


@pytest.mark.parametrize("command", ["encode", "decode", "reconstruct"])
def test_a_result_that_is_older_than_its_source_is_made_again(atoken, tiny, picture, encoded, command):
    source = encoded / ("out" if command == "decode" else "in")
    arguments = [command, source, "--model", tiny, "--out", encoded / "result"]
    assert atoken(*arguments).exit_code == 0
    before = state(encoded / "result")
    changed = sorted(path for path in source.iterdir() if path.name != RECORD)[0]
    now = max(before.values()) + 1
    os.utime(changed, ns=(now, now))
    result = atoken(*arguments)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].startswith("1 written, 1 skipped")
    after = state(encoded / "result")
    again = [name for name in before if after[name] != before[name]]
    assert len(again) == 1
    assert again[0].startswith("a.")


def test_outdated_tokens_of_another_model_are_not_replaced(atoken, tiny, other, encoded):
    os.utime(encoded / "in/a.png")
    before = (encoded / "out/a.atok").read_bytes()
    result = atoken("encode", encoded / "in/a.png", "--model", other, "--out", encoded / "out")
    assert result.exit_code == 2
    assert result.stderr.endswith("--overwrite replaces it\n")
    assert (encoded / "out/a.atok").read_bytes() == before


def test_overwrite_writes_them_again(atoken, tiny, encoded):
    before = state(encoded / "out")
    result = atoken("encode", encoded / "in", "--model", tiny, "--out", encoded / "out", "--overwrite")
    assert result.exit_code == 0
    assert result.stdout.startswith("2 written, 12 tokens")
    after = state(encoded / "out")
    assert after.keys() == before.keys()
    assert all(after[name] > before[name] for name in before)


@pytest.mark.parametrize("command", ["decode", "reconstruct"])
def test_pictures_that_are_there_are_skipped(atoken, tiny, encoded, command):
    source = encoded / ("out" if command == "decode" else "in")
    arguments = [command, source, "--model", tiny, "--out", encoded / "back"]
    assert atoken(*arguments).stdout.splitlines()[-1].startswith("2 written")
    before = state(encoded / "back")
    result = atoken(*arguments)
    assert result.exit_code == 0
    assert result.stdout.startswith("0 written, 2 skipped")
    assert state(encoded / "back") == before
    assert atoken(*arguments, "--overwrite").stdout.splitlines()[-1].startswith("2 written")
    assert all(time > before[name] for name, time in state(encoded / "back").items())


def test_tokens_of_another_model_are_no_finished_result(atoken, tiny, other, encoded):
    before = (encoded / "out/a.atok").read_bytes()
    arguments = ["encode", encoded / "in", "--model", other, "--out", encoded / "out"]
    result = atoken(*arguments)
    assert result.exit_code == 2
    first, second = result.stderr.splitlines()
    assert first.startswith(f"error: {encoded}/in/a.png: {encoded}/out/a.atok holds continuous tokens of 'tiny'")
    assert second.endswith("--overwrite replaces it")
    assert (encoded / "out/a.atok").read_bytes() == before
    assert atoken(*arguments, "--overwrite").exit_code == 0
    assert (encoded / "out/a.atok").read_bytes() != before


def test_tokens_of_another_kind_are_no_finished_result(atoken, tiny, encoded):
    arguments = ["encode", encoded / "in/a.png", "--model", tiny, "--out", encoded / "out", "--kind", "discrete"]
    result = atoken(*arguments)
    assert result.exit_code == 2
    assert "holds continuous tokens" in result.stderr
    assert "not discrete ones" in result.stderr
    assert atoken(*arguments, "--overwrite").exit_code == 0
    assert Tokens.load(encoded / "out/a.atok").kind == "discrete"


def test_a_damaged_result_is_not_finished(atoken, tiny, encoded):
    data = (encoded / "out/a.atok").read_bytes()
    (encoded / "out/a.atok").write_bytes(data[:-7])
    (encoded / "out/b.atok").unlink()
    (encoded / "out/b.atok").mkdir()
    arguments = ["encode", encoded / "in", "--model", tiny, "--out", encoded / "out"]
    result = atoken(*arguments)
    assert result.exit_code == 2
    first, second = result.stderr.splitlines()
    assert f"{encoded}/out/a.atok" in first
    assert first.endswith("damaged; --overwrite writes it again")
    assert f"{encoded}/out/b.atok" in second
    result = atoken(*arguments, "--overwrite")
    assert len(Tokens.load(encoded / "out/a.atok")) == 6
    assert result.exit_code == 2
    assert f"error: {encoded}/in/b.png: cannot write {encoded}/out/b.atok: Is a folder" in result.stderr


def test_after_an_interruption_only_the_rest_is_done(atoken, tiny, picture, tmp_path, monkeypatch):
    for name in "abcd":
        picture(tmp_path / f"in/{name}.png")
    save, calls = Tokens.save, []

    def interrupted(self, path):
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        save(self, path)

    monkeypatch.setattr(Tokens, "save", interrupted)
    arguments = ["encode", tmp_path / "in", "--model", tiny, "--out", tmp_path / "out"]
    result = atoken(*arguments)
    assert result.exit_code == 130
    assert sorted(state(tmp_path / "out")) == ["a.atok", "b.atok"]
    result = atoken(*arguments)
    assert result.exit_code == 0
    assert result.stdout.startswith("2 written, 2 skipped")
