"""Going on where an earlier run stopped."""

import json
import os

import pytest
from PIL import Image

from atoken import Tokens
from atoken.cli.record import RECORD, Record
from atoken.tokens.stream import open_tokens
from refusals import check_names, refused


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_outdated_tokens_of_another_model_are_not_replaced(atoken, tiny, other, encoded):
    os.utime(encoded / "in/a.png")
    before = (encoded / "out/a.atok").read_bytes()
    result = atoken("encode", encoded / "in/a.png", "--model", other, "--out", encoded / "out")
    assert result.exit_code == 2
    check_names(result.stderr, encoded / "out/a.atok", "--overwrite")
    assert (encoded / "out/a.atok").read_bytes() == before


@pytest.mark.slow
def test_overwrite_writes_them_again(atoken, tiny, encoded):
    before = state(encoded / "out")
    result = atoken("encode", encoded / "in", "--model", tiny, "--out", encoded / "out", "--overwrite")
    assert result.exit_code == 0
    assert result.stdout.startswith("2 written, 12 tokens")
    after = state(encoded / "out")
    assert after.keys() == before.keys()
    assert all(after[name] > before[name] for name in before)


@pytest.mark.slow
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


@pytest.mark.slow
def test_tokens_of_another_model_are_no_finished_result(atoken, tiny, other, encoded):
    before = (encoded / "out/a.atok").read_bytes()
    arguments = ["encode", encoded / "in", "--model", other, "--out", encoded / "out"]
    result = atoken(*arguments)
    assert result.exit_code == 2
    first, second = result.stderr.splitlines()
    check_names(first, f"error: {encoded}/in/a.png", f"{encoded}/out/a.atok", "continuous", "'tiny'")
    check_names(second, "--overwrite")
    assert (encoded / "out/a.atok").read_bytes() == before
    assert atoken(*arguments, "--overwrite").exit_code == 0
    assert (encoded / "out/a.atok").read_bytes() != before


@pytest.mark.slow
def test_tokens_of_another_kind_are_no_finished_result(atoken, tiny, encoded):
    arguments = ["encode", encoded / "in/a.png", "--model", tiny, "--out", encoded / "out", "--kind", "discrete"]
    result = atoken(*arguments)
    assert result.exit_code == 2
    check_names(result.stderr, "continuous", "discrete", "--overwrite")
    assert atoken(*arguments, "--overwrite").exit_code == 0
    assert Tokens.load(encoded / "out/a.atok").kind == "discrete"


@pytest.mark.slow
def test_a_damaged_result_is_not_finished(atoken, tiny, encoded):
    data = (encoded / "out/a.atok").read_bytes()
    (encoded / "out/a.atok").write_bytes(data[:-7])
    (encoded / "out/b.atok").unlink()
    (encoded / "out/b.atok").mkdir()
    arguments = ["encode", encoded / "in", "--model", tiny, "--out", encoded / "out"]
    result = atoken(*arguments)
    assert result.exit_code == 2
    first, second = result.stderr.splitlines()
    check_names(first, f"{encoded}/out/a.atok", "damaged", "--overwrite")
    check_names(second, f"{encoded}/out/b.atok")
    result = atoken(*arguments, "--overwrite")
    assert len(Tokens.load(encoded / "out/a.atok")) == 6
    assert result.exit_code == 2
    check_names(result.stderr, f"error: {encoded}/in/b.png", f"{encoded}/out/b.atok", "folder")


@pytest.mark.slow
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


def clip(path, shade=0):
    """A GIF of four frames."""
    frames = [Image.new("RGB", (16, 16), (shade, 40 * i, 0)) for i in range(4)]
    path.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("command", ["encode", "reconstruct"])
@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        ("png", ["--background", "0,0,0"], ["--background 255,255,255", "--background 0,0,0"]),
        ("png", ["--max-side", "16"], ["no --max-side", "--max-side 16"]),
        ("png", ["--dtype", "bfloat16"], ["--dtype float32", "--dtype bfloat16"]),
        ("gif", ["--fps", "5"], ["no --fps", "--fps 5.0"]),
        ("gif", ["--size", "32"], ["--size 32"]),
        ("gif", ["--start", "0.2"], ["--start 0.2"]),
    ],
)
def test_a_result_made_with_other_options_is_no_finished_one(
    atoken, tiny, picture, tmp_path, command, kind, options, named
):
    source = clip(tmp_path / "a.gif") if kind == "gif" else picture(tmp_path / "a.png")
    format_ = ["--video-format", "gif"] if command == "reconstruct" else []
    arguments = [command, source, "--model", tiny, "--out", tmp_path / "out", *format_]
    assert atoken(*arguments).exit_code == 0
    before = state(tmp_path / "out")
    result = atoken(*arguments, *options)
    assert result.exit_code == 2
    check_names(result.stderr, source, *named, "--overwrite")
    assert state(tmp_path / "out") == before
    assert atoken(*arguments, *options, "--overwrite").exit_code == 0
    assert atoken(*arguments, *options).stdout.startswith("0 written, 1 skipped")
    assert atoken(*arguments).exit_code == 2


@pytest.mark.slow
def test_options_of_other_kinds_and_those_that_change_no_result_do_not_count(atoken, tiny, picture, tmp_path):
    clip(tmp_path / "in/b.gif")
    picture(tmp_path / "in/a.png")
    arguments = ["encode", tmp_path / "in", "--model", tiny, "--out", tmp_path / "out"]
    assert atoken(*arguments).exit_code == 0
    result = atoken(*arguments, "--fps", "5", "--token-budget", 7, "--background", "255, 255,255")
    (line,) = result.stderr.splitlines()
    check_names(line, "b.gif", "--fps")
    assert result.stdout.startswith("0 written, 1 skipped")


@pytest.mark.slow
def test_reconstructions_and_pictures_of_another_model_or_precision(atoken, tiny, other, encoded):
    arguments = ["reconstruct", encoded / "in/a.png", "--out", encoded / "back"]
    assert atoken(*arguments, "--model", tiny).exit_code == 0
    check_names(atoken(*arguments, "--model", other).stderr, "--model", "--overwrite")
    check_names(atoken(*arguments, "--model", tiny, "--kind", "discrete").stderr, "--kind discrete", "--overwrite")
    decode = ["decode", encoded / "out", "--model", tiny, "--out", encoded / "back"]
    assert atoken(*decode).exit_code == 0
    assert atoken(*decode, "--dtype", "bfloat16").exit_code == 2


@pytest.mark.slow
def test_a_result_without_a_record_is_kept_and_one_that_was_being_replaced_is_made_again(atoken, tiny, encoded):
    record, arguments = encoded / "out" / RECORD, ["encode", encoded / "in", "--model", tiny, "--out", encoded / "out"]
    lines = record.read_text().splitlines()
    record.write_text("\n".join(["torn {", "[]", "{}", *(line for line in lines if '"a.atok"' in line)]) + "\n")
    assert atoken(*arguments).stdout.startswith("0 written, 2 skipped")
    with record.open("a") as file:
        file.write(json.dumps({"result": "a.atok", "options": None}) + "\n")
    assert atoken(*arguments, "--latents", "float32").stdout.startswith("1 written, 1 skipped")
    assert Tokens.load(encoded / "out/a.atok").values.dtype.itemsize == 4


@pytest.mark.slow
def test_files_of_finished_results_are_closed(atoken, tiny, other, tmp_path, monkeypatch):
    source, opened = clip(tmp_path / "a.gif"), []
    assert atoken("encode", source, "--model", tiny, "--out", tmp_path / "out").exit_code == 0

    def noted(path):
        opened.append(open_tokens(path))
        return opened[-1]

    monkeypatch.setattr("atoken.cli.encode.open_tokens", noted)
    for model in (tiny, other):
        atoken("encode", source, "--model", model, "--out", tmp_path / "out")
    assert [tokens._file.closed for tokens in opened] == [True, True]


def test_a_line_that_a_full_disk_cut_off_costs_no_other(tmp_path):
    record = Record()
    with record.writing(tmp_path / "a.png", {"--dtype": "float32"}):
        pass
    path = tmp_path / RECORD
    path.write_bytes(path.read_bytes()[:-9])
    with record.writing(tmp_path / "b.png", {"--dtype": "float32"}):
        pass
    again = Record()
    assert again.check(tmp_path / "a.png", {}), "without a record it is finished"
    with refused("b.png", "--dtype"):
        again.check(tmp_path / "b.png", {"--dtype": "bfloat16"})
