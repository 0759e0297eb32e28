"""Interrupt commands while they write, run them again, and compare with a run that nobody interrupted.

    python tests/fuzz/kill.py [--kills 25] [--minutes 5] [--commands encode,train] [--seed 0]

Each command runs in a forked process. From the moment that its folder holds something new it is killed at a random time
(by turns with SIGKILL and SIGINT). Then no file under a final name may be a half, the same command must end well, and
all files must be those of the uninterrupted run, with nothing beside them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from commands import COMMANDS, ONCE, arguments, prepare
from safetensors import safe_open

import atoken.cli
from atoken import Tokens, open_video
from atoken.cli.interrupt import CODE
from atoken.cli.record import RECORD
from atoken.cli.tokenize import LOCK

STAYS = (RECORD, LOCK)
"""Names with a dot that a finished run leaves, too."""

PATIENCE = 300.0
"""Seconds after which a command hangs."""
PROMPT = 10.0
"""Seconds within which Ctrl-C must have ended a command on a busy machine."""
UNCERTAIN = (
    "log.jsonl",
    "state.safetensors",
    "report.html",
    "events.",
    "pictures/",
    RECORD,
    "index.json.lock",
    "progress.json",
)
"""Names of files that hold times of the clock."""
OWN = ("tensorboard/", "checkpoints/step-")
"""What each run of training has of its own: logs by time, and a checkpoint of where it was interrupted."""


def start(typed: list[str], log: Path) -> int:
    """Fork a process that runs a command; returns its number."""
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it otherwise
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.argv = ["atoken", *typed]
        atoken.cli.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def end_of(process: int, seconds: float = PATIENCE) -> int | None:
    """The exit code of a process, minus a signal; None where it takes longer, and is killed."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        number, status = os.waitpid(process, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def begins_to_write(process: int, out: Path) -> bool:
    """Wait until a process has put something into a folder; whether it did before it ended."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if out.is_dir() and any(out.iterdir()):
            return True
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        time.sleep(0.0005)
    return False


def run(typed: list[str], log: Path) -> int | None:
    """A command from begin to end."""
    return end_of(start(typed, log))


def run_well(typed: list[str], log: Path) -> None:
    """``run``, which must end well."""
    if run(typed, log) != 0:
        raise SystemExit(log.read_text())


def names(folder: Path) -> set[str]:
    """All files below a folder that another run has, too."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    return {name for name in found if not name.startswith(OWN)}


def content(path: Path) -> object:
    """What a file says: equal for equal results. Raises where it is half of one."""
    if path.suffix == ".atok":
        tokens = Tokens.load(path)
        with safe_open(path, "pt") as file:
            header = {key: value for key, value in file.metadata().items() if key != "checksum"}
        return header, tokens.values.tolist(), tokens.coords.tolist()
    if path.suffix == ".gif":
        return [frame.pixels.tobytes() for frame in open_video(path)]
    if path.suffix == ".json":
        return _timeless(json.loads(path.read_text()))
    return path.read_bytes()


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if not any(w in key for w in ("second", "time"))}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def differences(out: Path, expected: dict[str, object]) -> list[str]:
    """What is not as in the uninterrupted run."""
    found, wanted = names(out), set(expected)
    said = [f"{name} is missing" for name in sorted(wanted - found)]
    said += [f"{name} is left over" for name in sorted(found - wanted)]
    return said + [f"{name} differs" for name in sorted(found & wanted) if _differs(out / name, name, expected)]


def _differs(path: Path, name: str, expected: dict[str, object]) -> bool:
    return not any(part in name for part in UNCERTAIN) and content(path) != expected[name]


def halves(out: Path, expected: dict[str, object]) -> list[str]:
    """Files under a final name that are not whole, directly after an interruption."""
    said = []
    for name in sorted(names(out) & set(expected)):
        if any(part in name for part in UNCERTAIN):
            continue
        try:
            content(out / name)
        except Exception as error:
            said.append(f"{name} is half written ({error})")
    return said


def interrupt(typed: list[str], out: Path, delay: float, number: int, log: Path) -> list[str]:
    """Run a command and end it ``delay`` seconds after it began to write; what is wrong then."""
    process = start(typed, log)
    if not begins_to_write(process, out):
        return [f"ended with {end_of(process)} and nothing written: {log.read_text()[-300:]}"]
    time.sleep(delay)
    os.kill(process, number)
    code = end_of(process, PROMPT)
    if code is None:
        return [f"did not end within {PROMPT:.0f} s of Ctrl-C"]
    temporary = [name for name in names(out) if Path(name).name.startswith(".") and Path(name).name not in STAYS]
    said = [f"{name} is left by Ctrl-C" for name in temporary] if number == signal.SIGINT else []
    return said + ([] if code in (0, -number, CODE) else [f"exit code {code}: {log.read_text()[-300:]}"])


def campaign(command: str, inputs: Path, folder: Path, kills: int, seconds: float, seed: int) -> Counter[str]:
    """Interrupt a command so often; counts, and sentences of what went wrong as further keys."""
    rng, log = np.random.default_rng(seed), folder / "log"
    reference, out, tally = folder / "reference", folder / "reference", Counter[str]()
    began = time.monotonic()
    process = start(arguments(command, inputs, reference), log)
    begins_to_write(process, reference)
    first = time.monotonic()
    if end_of(process) != 0:
        raise SystemExit(f"{command} does not work uninterrupted: {log.read_text()}")
    writing = time.monotonic() - first
    expected = {name: content(reference / name) for name in names(reference)}
    reference.rename(folder / "expected")
    while tally["kills"] < kills and time.monotonic() - began < seconds:
        number = (signal.SIGKILL, signal.SIGINT)[tally["kills"] % 2]
        log.write_text("")
        wrong = interrupt(arguments(command, inputs, out), out, rng.uniform(0, writing), number, log)
        through = names(out) == set(expected)
        tally["too late" if through else "kills"] += 1
        wrong += halves(out, expected)
        code = 0 if through and command in ONCE else run(arguments(command, inputs, out), log)
        wrong += [] if code == 0 else [f"the same command again ends with {code}: {log.read_text()[-300:]}"]
        wrong += differences(out, expected)[:3]
        tally.update(f"{number.name}: {sentence}" for sentence in wrong)
        shutil.rmtree(out)
        if tally["too late"] > 3 * kills:
            break
    return tally


def main(typed: list[str] | None = None) -> int:
    """Run, print what was found, and return 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25, help="interruptions of each command")
    parser.add_argument("--minutes", type=float, default=5.0, help="time of each command")
    parser.add_argument("--commands", default=",".join(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(typed)
    torch.set_num_threads(1)  # forked processes must not find threads of their parent
    for module in pkgutil.iter_modules(atoken.cli.__path__, "atoken.cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)  # once, and not in each of them
    failed = 0
    with tempfile.TemporaryDirectory(prefix="kill-") as folder:
        inputs = Path(folder)
        prepare(inputs, lambda typed: run_well(typed, inputs / "log"))
        for command in options.commands.split(","):
            place = inputs / "runs" / command
            place.mkdir(parents=True)
            tally = campaign(command, inputs, place, options.kills, 60 * options.minutes, options.seed)
            kills, late = tally.pop("kills", 0), tally.pop("too late", 0)
            print(f"{command}: {kills} kills while writing, {late} too late, {sum(tally.values())} faults", flush=True)
            for sentence, count in tally.most_common(20):
                print(f"  {count} x {sentence}", flush=True)
            failed += sum(tally.values())
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
