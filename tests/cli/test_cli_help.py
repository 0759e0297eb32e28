"""The command line itself: help without torch, options that cannot be, ends of the process."""

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from atoken import PRESETS, __version__, list_generators, list_models
from atoken.cli import interrupt
from atoken.cli.settings import FORMATS
from atoken.codec import TOKEN_BUDGET
from atoken.core.errors import ReadError
from atoken.media.image.files import DEFAULT_MAX_PIXELS
from atoken.media.suffixes import IMAGE_SUFFIXES
from atoken.tokens.patch import KINDS
from refusals import check_names

COMMANDS = [
    "encode",
    "decode",
    "reconstruct",
    "info",
    "tokens",
    "export",
    "import",
    "models",
    "convert",
    "train",
    "data",
    "eval",
    "bench",
    "demo",
]
MAIN = "import sys; from atoken.cli import main; main()"
GUARD = 600
"""Seconds after which a process is taken to hang, on a machine however busy."""
HEAVY = "torch", "numpy", "PIL", "safetensors"


def process(*arguments, encoding="utf-8", **options):
    command = [sys.executable, "-c", MAIN, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": encoding}
    return subprocess.run(command, capture_output=True, encoding=encoding, timeout=GUARD, env=environment, **options)


@pytest.mark.slow
def test_help_imports_nothing_heavy():
    script = f"""
import sys
from atoken.cli import app
for command in {[[], *([name] for name in COMMANDS)]}:
    try:
        app([*command, "--help"])
    except SystemExit as end:
        assert end.code == 0
    loaded = [name for name in {HEAVY} if name in sys.modules]
    assert not loaded, (command, loaded)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=GUARD)
    assert done.returncode == 0, done.stderr
    assert all(f"{name} " in done.stdout for name in COMMANDS)


@pytest.mark.slow
def test_help_of_an_installed_command_has_its_name(atoken):
    done = process("encode", "--help")
    assert done.returncode == 0
    assert "Usage: atoken encode" in done.stdout


def test_version(atoken):
    result = atoken("--version")
    assert (result.exit_code, result.stdout) == (0, f"atoken {__version__}\n")


def test_a_bare_command_shows_the_help(atoken):
    result = atoken()
    assert result.exit_code == 2
    assert "reconstruct" in result.output


@pytest.mark.parametrize("command", ["encode", "reconstruct"])
def test_the_defaults_that_help_names_are_those_of_the_library(atoken, command):
    text = " ".join(atoken(command, "--help").stdout.split())
    assert f"[default: ({TOKEN_BUDGET})]" in text
    assert f"({DEFAULT_MAX_PIXELS})" in text
    assert "|".join(KINDS) in text
    assert {f".{name}" for name in FORMATS} <= IMAGE_SUFFIXES


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--token-budget", "0"], ["--token-budget", "0"]),
        (["--token-budget", "many"], ["--token-budget", "integer"]),
        (["--max-pixels", "-1"], ["--max-pixels", "-1"]),
        (["--dtype", "float8"], ["--dtype", "'float8'", "float32", "bfloat16", "float16"]),
        (["--kind", "vague"], ["--kind", "'vague'", "continuous", "discrete"]),
        (["--background", "white"], ["--background", "'white'", "255"]),
        (["--background", "0,0,256"], ["--background", "'0,0,256'"]),
        (["--device", "cuda:99"], ["--device", "'cuda:99'", "--device cpu"]),
        (["--device", "toaster"], ["--device", "'toaster'"]),
        (["--device", "cuda:"], ["--device", "'cuda:'"]),
        (["--speed", "9"], ["--speed", "encode --help"]),
        (["--model", "nobody"], ["'nobody'"]),
    ],
)
def test_options_that_cannot_be_are_one_sentence(atoken, tiny, picture, tmp_path, arguments, words):
    path = picture(tmp_path / "a.png")
    model = [] if "--model" in arguments else ["--model", tiny]
    result = atoken("encode", path, *model, "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    check_names(result.stderr, "error: ", *words)
    assert not (tmp_path / "out").exists()


def test_cuda_without_cuda(atoken, tiny, picture, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    for command in (["encode", picture(tmp_path / "a.png"), "--model", tiny], ["train", "x.yaml", "--out", "runs"]):
        result = atoken(*command, "--device", "cuda")
        assert result.exit_code == 2
        check_names(result.stderr, "error: --device", "'cuda'", "--device cpu")


def test_a_missing_argument_and_an_unknown_command(atoken):
    for arguments, word in ((["encode"], "INPUTS"), (["embroider"], "embroider"), (["convert", "a.pt"], "--out")):
        result = atoken(*arguments)
        assert result.exit_code == 2
        check_names(result.stderr, word)


def test_a_bug_outside_of_any_input_keeps_its_traceback(atoken, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(importlib.import_module("atoken.cli.info"), "read_model", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        atoken("models")


@pytest.mark.slow
def test_exit_codes_of_the_process(tiny, picture, tmp_path):
    path = picture(tmp_path / "a.png")
    done = process("encode", path, "--model", tiny, cwd=tmp_path)
    assert done.returncode == 0
    check_names(done.stderr, "[1/1]", "a.atok", "6 tokens")
    assert (tmp_path / "a.atok").is_file()
    done = process("encode", tmp_path / "b.png", "--model", tiny, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    check_names(done.stderr, "error: ", tmp_path / "b.png")


@pytest.mark.slow
def test_a_reader_that_goes_away_sees_no_traceback():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        command = [sys.executable, "-c", MAIN, "models"]
        done = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, text=True, timeout=GUARD)
    assert done.stderr == ""


@pytest.mark.slow
def test_a_name_that_the_terminal_cannot_show(picture, tmp_path):
    path = picture(tmp_path / "\N{HIRAGANA LETTER A}.png")
    done = process("info", path, encoding="latin-1")
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path}/\\u3042.png\n" in done.stdout


@pytest.mark.slow
def test_a_bar_on_a_terminal(tiny, picture, tmp_path):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    picture(tmp_path / "in/a.png")
    (tmp_path / "in/b.png").write_bytes(b"")
    command = [sys.executable, "-c", MAIN, "encode", tmp_path / "in", "--model", tiny, "--out", tmp_path / "out"]
    environment = {**os.environ, "TERM": "xterm", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, text=True, timeout=GUARD, env=environment)
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        shown = terminal.read(100_000).decode()
    assert "2/2" in shown
    assert "1 failed" in shown
    assert f"error: {tmp_path}/in/b.png" in shown
    check_names(done.stdout, "1 written", "1 failed", "6 tokens")


def test_ctrl_c_says_that_one_can_go_on(atoken, tiny, picture, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        signal.raise_signal(signal.SIGINT)
        time.sleep(5)

    monkeypatch.setattr("atoken.pipeline.atoken.AToken.encode", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it otherwise
    try:
        result = atoken("encode", picture(tmp_path / "a.png"), "--model", tiny, "--out", tmp_path / "out")
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 130
    check_names(result.stderr, "interrupted", "again")


def test_ctrl_c_that_a_library_turned_into_an_error_of_the_file(atoken, tmp_path, monkeypatch):
    """safetensors does: a sound file was called damaged."""

    def swallowing(*_):
        with suppress(KeyboardInterrupt):
            interrupt._interrupt(signal.SIGINT, None)
        raise ReadError("a.pt is damaged")

    monkeypatch.setattr(interrupt, "_received", threading.Event())
    monkeypatch.setattr(interrupt, "_announced", threading.Event())
    monkeypatch.setattr(importlib.import_module("atoken.cli.convert"), "read_released", swallowing)
    (tmp_path / "a.pt").touch()
    result = atoken("convert", tmp_path / "a.pt", "--out", tmp_path / "out")
    assert result.exit_code == interrupt.CODE
    check_names(result.stderr, "interrupted", "again")


@pytest.mark.slow
def test_models_lists_every_preset(atoken):
    result = atoken("models")
    assert result.exit_code == 0
    header, *lines = result.stdout.splitlines()
    assert header.split() == ["name", "parameters", "width", "depth", "tokens", "weights"]
    assert {line.split()[0] for line in lines} == {*PRESETS, *list_models(), *list_generators()}
    so400m = next(line for line in lines if line.startswith("so400m"))
    assert so400m.split() == ["so400m", "845.7", "M", "1152", "27", "+", "27", "continuous", "-"]
    assert next(line for line in lines if line.startswith("nano")).split()[-1] == "shipped"
