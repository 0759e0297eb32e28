"""Whatever one input raises stops no other, Ctrl-C ends a command, and no temporary file stays."""

import os
import signal
import subprocess
import sys
import time

import pytest

import atoken as library
from atoken import Tokens
from atoken.cli.record import RECORD
from atoken.media.image import files
from refusals import check_names


class Strange(Exception):
    """Nobody expects it."""


def written(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != RECORD)


@pytest.fixture
def three(picture, tmp_path):
    for name in "abc":
        picture(tmp_path / f"in/{name}.png")
    return tmp_path


def raising(monkeypatch, owner, name, error):
    """Let the second call raise."""
    before, calls = getattr(owner, name), []

    def call(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            raise error
        return before(*arguments, **options)

    monkeypatch.setattr(owner, name, call)


READING, WRITING = (files, "read_image"), (Tokens, "save")


@pytest.mark.slow
@pytest.mark.parametrize("error", [Strange("odd"), RecursionError(), KeyError("x"), RuntimeError("shape\nmismatch")])
@pytest.mark.parametrize("where", [READING, WRITING])
def test_an_unexpected_class_is_a_fault_of_ours_and_the_others_are_written(
    atoken, tiny, three, monkeypatch, where, error
):
    raising(monkeypatch, *where, error)
    result = atoken("encode", three / "in", "--model", tiny, "--out", three / "out")
    assert result.exit_code == 1
    check_names(result.stderr, three / "in/b.png", "internal error", type(error).__name__, "ATOKEN_DEBUG")
    assert written(three / "out") == ["a.atok", "c.atok"]
    check_names(result.stdout, "2 written", "1 failed")


def test_a_picture_at_which_the_model_fails_leaves_the_rest_of_its_batch(atoken, tiny, three, picture, monkeypatch):
    picture(three / "in/b.png", 40, 40)
    encode = library.AToken.encode

    def broken(self, pictures, **options):
        if any(item.shape[0] == 40 for item in pictures):
            raise Strange("odd")
        return encode(self, pictures, **options)

    monkeypatch.setattr(library.AToken, "encode", broken)
    result = atoken("reconstruct", three / "in", "--model", tiny, "--out", three / "out")
    assert result.exit_code == 1
    check_names(result.stderr, "b.png", "Strange")
    assert written(three / "out") == ["a.reconstructed.png", "c.reconstructed.png"]


def test_the_traceback_is_shown_when_asked_for(atoken, tiny, three, monkeypatch):
    raising(monkeypatch, *READING, Strange("odd"))
    monkeypatch.setenv("ATOKEN_DEBUG", "1")
    result = atoken("encode", three / "in", "--model", tiny, "--out", three / "out")
    assert "Traceback" in result.stderr
    assert __file__.rsplit("/", 1)[-1] in result.stderr


@pytest.mark.parametrize("error", [ValueError("bad"), MemoryError(), OSError(5, "Input/output error")])
def test_what_a_user_can_mend_is_no_fault_of_ours(atoken, tiny, three, monkeypatch, error):
    raising(monkeypatch, *READING, error)
    result = atoken("encode", three / "in", "--model", tiny, "--out", three / "out")
    assert result.exit_code == 2
    check_names(result.stderr, three / "in/b.png")
    assert "internal" not in result.stderr
    assert written(three / "out") == ["a.atok", "c.atok"]


def test_an_odd_error_of_writing_names_both_files_and_fails_alone(atoken, tiny, three, monkeypatch):
    raising(monkeypatch, *WRITING, OSError(95, "Operation not supported"))
    result = atoken("encode", three / "in", "--model", tiny, "--out", three / "out")
    assert result.exit_code == 2
    check_names(result.stderr, three / "in/b.png", three / "out/b.atok", "not supported")
    assert written(three / "out") == ["a.atok", "c.atok"]


SLOW = """
import sys, torch
from atoken import AToken
from atoken.cli import main
from atoken.core.files import atomic_write

encode, calls, matrix = AToken.encode, [], torch.rand(6000, 6000)

def slow(*arguments, **options):
    calls.append(1)
    if len(calls) == 1:
        return encode(*arguments, **options)
    with atomic_write("out/b.atok") as temporary:
        temporary.write_bytes(b"half")
        print("begun", flush=True)
        torch.linalg.svd(matrix)  # minutes inside one call

AToken.encode = slow
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_a_long_operation_and_removes_what_is_half_written(tiny, three, times):
    command = [sys.executable, "-c", SLOW, "encode", "in", "--model", str(tiny), "--out", "out", "--token-budget", "6"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    options = {"cwd": three, "text": True, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **options, preexec_fn=heed_ctrl_c) as process:
        assert process.stdout.readline() == "begun\n"
        time.sleep(1.5)  # into the long call
        for _ in range(times):
            process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=120)  # a guard: the operation takes minutes
        finally:
            process.kill()
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert written(three / "out") == ["a.atok"]
    assert len(Tokens.load(three / "out/a.atok")) == 6


def heed_ctrl_c():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it otherwise
