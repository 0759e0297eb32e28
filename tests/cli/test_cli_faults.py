"""Bad input: one sentence each, exit code 2, the rest is done, and nothing half-written is left."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from atoken import PRESETS, AToken, Tokens, read_image
from atoken.cli.record import RECORD
from refusals import check_names


@pytest.fixture
def run(atoken, tiny, tmp_path):
    """A picture command with the tiny model and an output folder."""

    def call(command, *arguments):
        return atoken(command, *arguments, "--model", tiny, "--out", tmp_path / "out")

    return call


def everything(folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() and path.name != RECORD
    )


def empty(path):
    path.write_bytes(b"")


def text_named_png(path):
    path.write_text("This is a text, whatever its name says.")


def truncated(path):
    Image.effect_noise((64, 64), 90).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def dangling(path):
    path.symlink_to(path.with_name("nowhere"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "named"), [(empty, "empty"), (text_named_png, "PNG"), (truncated, "damaged"), (dangling, "no such file")]
)
@pytest.mark.parametrize("command", ["encode", "reconstruct"])
def test_one_bad_picture_does_not_stop_the_rest(run, picture, tmp_path, command, fault, named):
    good = [picture(tmp_path / f"in/{name}.png") for name in "ac"]
    fault(tmp_path / "in/b.png")
    result = run(command, tmp_path / "in")
    assert result.exit_code == 2
    check_names(result.stderr, f"error: {tmp_path}/in/b.png", named)
    assert "2 written, 1 failed, 12 tokens" in result.stdout
    assert [name[0] for name in everything(tmp_path / "out")] == [path.stem for path in good]


def test_a_bad_picture_alone_is_one_sentence(run, tmp_path):
    empty(tmp_path / "a.png")
    result = run("encode", tmp_path / "a.png")
    assert (result.exit_code, result.stdout) == (2, "")
    check_names(result.stderr, f"error: {tmp_path}/a.png", "empty", "again")


@pytest.mark.slow
def test_a_bomb(run, picture, tmp_path):
    path = picture(tmp_path / "a.png", 20, 33)
    result = run("encode", path, "--max-pixels", 659)
    assert result.exit_code == 2
    check_names(result.stderr, path, "660", "659", "--max-pixels")
    assert run("encode", path, "--max-pixels", 660).exit_code == 0


@pytest.mark.slow
def test_missing_paths(run, picture, tmp_path):
    result = run("encode", tmp_path / "gone.png", picture(tmp_path / "a.png"), tmp_path / "*.webp")
    assert result.exit_code == 2
    first, second = result.stderr.splitlines()
    check_names(first, f"error: {tmp_path}/gone.png")
    check_names(second, f"error: {tmp_path}/*.webp", "picture, video or 3D file")
    assert everything(tmp_path / "out") == ["a.atok"]


def test_no_input_at_all_is_one_sentence(run, tmp_path):
    result = run("encode", tmp_path / "gone.png", tmp_path / "*.webp")
    assert (result.exit_code, result.stdout) == (2, "")
    check_names(result.stderr, f"error: {tmp_path}/gone.png", f"{tmp_path}/*.webp")
    check_names(run("decode", tmp_path).stderr, f"error: {tmp_path}", "token file")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("command", "ending"), [("encode", ".atok"), ("reconstruct", ".reconstructed.png")])
def test_two_pictures_of_one_stem(atoken, tiny, run, picture, tmp_path, command, ending):
    empty(picture(tmp_path / "in/a.bmp"))
    picture(tmp_path / "in/a.png")
    picture(tmp_path / "in/a.webp", 16, 16)
    picture(tmp_path / "in/b.png")
    result = run(command, tmp_path / "in")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    check_names(line, f"error: {tmp_path}/in/a.bmp", "empty")
    assert result.stdout.splitlines()[-1].startswith("3 written, 1 failed")
    assert everything(tmp_path / "out") == [f"a.png{ending}", f"a.webp{ending}", f"b{ending}"]
    if command == "encode":
        back = tmp_path / "back"
        assert atoken("decode", tmp_path / "out", "--model", tiny, "--out", back).exit_code == 0
        assert everything(back) == ["a.png.png", "a.webp.png", "b.png"]
        assert read_image(back / "a.webp.png").shape == (16, 16, 3)


def test_inputs_are_never_replaced(atoken, tiny, picture, tmp_path):
    path = picture(tmp_path / "a.png")
    before = path.read_bytes()
    result = atoken("reconstruct", path, "--model", tiny, "--out", path, "--overwrite")
    assert result.exit_code == 2
    check_names(result.stderr, f"error: {path}", "--out")
    assert path.read_bytes() == before


@pytest.mark.slow
def test_a_token_file_with_any_byte_changed(run, picture, tmp_path):
    run("encode", picture(tmp_path / "a.png"))
    good = (tmp_path / "out/a.atok").read_bytes()
    for at in (0, 8, 60, len(good) // 2, len(good) - 1):
        bad = bytearray(good)
        bad[at] ^= 1
        (tmp_path / "bad.atok").write_bytes(bad)
        result = run("decode", tmp_path / "bad.atok")
        assert result.exit_code == 2, at
        check_names(result.stderr, f"error: {tmp_path}/bad.atok")
    assert everything(tmp_path / "out") == ["a.atok"]


def test_token_files_that_are_none(run, picture, tmp_path):
    for name, data in (("empty", b""), ("text", b"not tokens at all")):
        (tmp_path / f"{name}.atok").write_bytes(data)
    result = run("decode", tmp_path)
    assert result.exit_code == 2
    first, second = result.stderr.splitlines()
    check_names(first, f"error: {tmp_path}/empty.atok", "empty")
    check_names(second, f"error: {tmp_path}/text.atok", "token file")


@pytest.mark.slow
def test_tokens_of_another_model_fail_alone(atoken, tiny, other, picture, tmp_path):
    for name, model in (("a", tiny), ("b", other), ("c", tiny)):
        path = picture(tmp_path / f"{name}.png")
        assert atoken("encode", path, "--model", model, "--out", tmp_path / "tokens").exit_code == 0
    result = atoken("decode", tmp_path / "tokens", "--model", tiny, "--out", tmp_path / "back")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    check_names(line, f"error: {tmp_path}/tokens/b.atok", "'tiny'", "weights")
    assert everything(tmp_path / "back") == ["a.png", "c.png"]


def test_a_kind_that_the_model_does_not_have(atoken, picture, tmp_path):
    AToken(replace(PRESETS["tiny"], kinds=("continuous",))).save_pretrained(tmp_path / "model")
    result = atoken("encode", picture(tmp_path / "a.png"), "--kind", "discrete", "--model", tmp_path / "model")
    assert result.exit_code == 2
    check_names(result.stderr, "error: --kind", "'discrete'", "continuous", tmp_path / "model")


@pytest.mark.parametrize("below", ["", "deep/er"])
def test_an_output_below_a_file(atoken, tiny, picture, tmp_path, monkeypatch, below):
    monkeypatch.setattr("atoken.cli.command.load", None)  # it must fail before the model is loaded
    (tmp_path / "file").write_text("mine")
    result = atoken("encode", picture(tmp_path / "a.png"), "--model", tiny, "--out", tmp_path / "file" / below)
    assert result.exit_code == 2
    check_names(result.stderr, f"error: {tmp_path}/file", "folder")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that takes no files")
def test_an_output_on_a_system_that_takes_none(atoken, tiny, picture, tmp_path):
    for name in "ab":
        picture(tmp_path / f"in/{name}.png")
    result = atoken("encode", tmp_path / "in", "--model", tiny, "--out", "/proc/tokens")
    assert result.exit_code == 2
    check_names(result.stderr, "error: /proc")


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
@pytest.mark.parametrize("command", ["encode", "reconstruct"])
def test_a_disk_that_takes_no_more_ends_the_command(run, picture, tmp_path, monkeypatch, command, number):
    for name in "abcd":
        picture(tmp_path / f"in/{name}.png")
    write, calls = Path.write_bytes, []

    def full(self, data):
        calls.append(self)
        if len(calls) < 2:
            return write(self, data)
        write(self, bytes(data)[:10])
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    result = run(command, tmp_path / "in")
    assert result.exit_code == 2
    assert len(calls) == 2, "the first failure of the disk is the last attempt"
    name = "b.atok" if command == "encode" else "b.reconstructed.png"
    check_names(result.stderr, f"error: {tmp_path}/out/{name}", os.strerror(number), "1 written", "again")
    assert everything(tmp_path / "out") == [name.replace("b.", "a.", 1)], "no part of a file, no temporary one"
    monkeypatch.undo()
    assert run(command, tmp_path / "in").exit_code == 0
    assert len(everything(tmp_path / "out")) == 4


def test_a_picture_too_large_for_its_format(run, picture, tmp_path, monkeypatch):
    picture(tmp_path / "in/large.bmp", 20, 40)
    picture(tmp_path / "in/small.bmp", 20, 20)
    monkeypatch.setattr("atoken.media.image.files._WRITERS", {".webp": ("WEBP", 30, {"lossless": True})})
    result = run("reconstruct", tmp_path / "in", "--format", "webp")
    assert result.exit_code == 2
    check_names(result.stderr, "large.bmp", "WEBP", "30")
    assert everything(tmp_path / "out") == ["small.reconstructed.webp"]


def test_a_cut_checkpoint_as_the_model(atoken, tiny, picture, tmp_path):
    data = (tiny / "model.safetensors").read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(data[: len(data) // 2])
    result = atoken("encode", picture(tmp_path / "a.png"), "--model", cut)
    assert result.exit_code == 2
    check_names(result.stderr, f"error: {cut}")


def test_a_name_of_many_dots_keeps_them(run, picture, tmp_path):
    picture(tmp_path / "holiday.2024.07.png")
    assert run("encode", tmp_path / "holiday.2024.07.png").exit_code == 0
    assert len(Tokens.load(tmp_path / "out/holiday.2024.07.atok")) == 6
