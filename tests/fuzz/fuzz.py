"""Read damaged and odd files of every kind: each must give a result or one sentence that names the file.

    python tests/fuzz/fuzz.py [--minutes 5] [--full] [--kinds tokens,clips] [--seed 0] [--case tokens:1234]

Files are read in forked processes with limits of memory and time. Case N of a kind is the same for the same seed. What
ends otherwise (another exception, a sentence without the file, a crash, a hang) is printed with the way to repeat it,
and its files are kept.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np
import torch
from kinds import KINDS
from mutate import Files

from atoken.core.errors import ReadError

MEMORY = 6 * 2**30
"""Address space of a reading process in bytes."""
SECONDS = 30.0
"""Longest that a file may take."""
BLOCK = 200
"""Files that one process reads."""
LONGEST = 600
"""Characters of one sentence."""
RESULT, REFUSED = "results", "refused"


def case(kind: str, seeds: list[Files], number: int, seed: int) -> tuple[Files, Files]:
    """The sound file and the changed one of a case."""
    rng = np.random.default_rng((seed, zlib.crc32(kind.encode()), number))
    sound, other = (seeds[rng.integers(len(seeds))] for _ in range(2))
    return sound, KINDS[kind].change(sound, other, rng)


def outcome(kind: str, sound: Files, files: Files, folder: Path) -> str:
    """RESULT, REFUSED, or what went wrong."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    path = folder / next(iter(files))
    try:
        KINDS[kind].read(path)
    except (ReadError, OSError) as error:
        sentence = str(error).strip()
        if "\n" in sentence or len(sentence) > LONGEST or not sentence:
            return f"no sentence: {_place(error)}: {sentence[:300]!r}"
        if not any(name in sentence for name in (str(folder), *files)):
            return f"names no file: {_place(error)}: {sentence}"
        return REFUSED
    except BaseException as error:
        return f"raises: {_place(error)}: {str(error)[:300]!r}"
    finally:
        for left in folder.iterdir():
            left.unlink()
    return "changed, and accepted" if KINDS[kind].must_refuse(sound, files) else RESULT


def _place(error: BaseException) -> str:
    """The class of an error, and the last line of this package on its way."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "atoken" in frame.filename]
    at = f" at {'/'.join(Path(frames[-1].filename).parts[-2:])}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{at}"


def work(kind: str, seeds: list[Files], numbers: range, seed: int, connection: Connection) -> None:
    """In a forked process: tell of each number when it begins and how it ended."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for number in numbers:
            sound, files = case(kind, seeds, number, seed)
            connection.send((number, None))
            connection.send((number, outcome(kind, sound, files, Path(folder))))
        connection.send((None, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024))


@dataclass
class Tally:
    """What became of the files of a kind."""

    ends: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)
    peak: int = 0
    """MB of the largest process."""
    seconds: float = 0.0

    def count(self, number: int, end: str) -> None:
        """Count an end, keeping one that is a failure."""
        self.ends[end if end in (RESULT, REFUSED) else "other"] += 1
        if end not in (RESULT, REFUSED):
            self.failures.append((number, end))


def run(kind: str, seeds: list[Files], numbers: range, seed: int, seconds: float, jobs: int) -> Tally:
    """Read the files of ``numbers`` in ``jobs`` processes at a time, for so many seconds."""
    tally, begin, waiting = Tally(), time.monotonic(), list(_blocks(numbers))
    busy: dict[Connection, tuple[multiprocessing.Process, range, int | None, float]] = {}
    context = multiprocessing.get_context("fork")
    while waiting or busy:
        if time.monotonic() - begin > seconds:
            waiting.clear()
        while waiting and len(busy) < jobs:
            block = waiting.pop(0)
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=work, args=(kind, seeds, block, seed, theirs), daemon=True)
            process.start()
            theirs.close()
            busy[ours] = process, block, None, time.monotonic()
        ready = wait(list(busy), timeout=1.0)
        for connection in list(busy):
            process, block, number, since = busy[connection]
            if connection not in ready:
                if time.monotonic() - since < SECONDS:
                    continue
                process.kill()
            try:
                told, end = connection.recv()
            except EOFError:  # the process has ended, well or not
                del busy[connection]
                process.join()
                if number is not None:
                    hung = process.exitcode == -9 and time.monotonic() - since >= SECONDS
                    tally.count(number, f"took over {SECONDS:.0f} s" if hung else f"died with {process.exitcode}")
                    waiting[:0] = [range(number + 1, block.stop)] if number + 1 < block.stop else []
                continue
            if told is None:
                tally.peak = max(tally.peak, end)
                busy[connection] = process, block, None, time.monotonic()
            elif end is None:
                busy[connection] = process, block, told, time.monotonic()
            else:
                tally.count(told, end)
                busy[connection] = process, block, None, time.monotonic()
    tally.seconds = time.monotonic() - begin
    return tally


def _blocks(numbers: range) -> list[range]:
    return [numbers[at : at + BLOCK] for at in range(0, len(numbers), BLOCK)]


def keep(kind: str, seeds: list[Files], number: int, seed: int, folder: Path) -> Path:
    """Write the files of a case."""
    place = folder / f"{kind}-{number}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for name, data in case(kind, seeds, number, seed)[1].items():
        (place / name).write_bytes(data)
    return place


def sound_files(kind: str) -> list[Files]:
    """The seeds of a kind, each of which must be read."""
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as read, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seeds = KINDS[kind].seeds(Path(made))
        for files in seeds:
            end = outcome(kind, files, files, Path(read))
            if end != RESULT:
                raise SystemExit(f"a sound file of {kind}, {next(iter(files))}, is not read: {end}")
    return seeds


def main(arguments: list[str] | None = None) -> int:
    """Run, print a table, and return 1 where a file ended in another way than it should."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="time of the run")
    parser.add_argument("--full", action="store_true", help="until all counts are reached, however long that takes")
    parser.add_argument("--count", type=int, help="files of each kind instead")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    parser.add_argument("--case", metavar="KIND:NUMBER", help="read one case here, with its traceback")
    options = parser.parse_args(arguments)
    if options.case:
        kind, number = options.case.split(":")
        path = keep(kind, sound_files(kind), int(number), options.seed, options.keep)
        print(path)
        print(
            KINDS[kind].read(next(path / name for name in case(kind, sound_files(kind), int(number), options.seed)[1]))
        )
        return 0
    chosen, failed = options.kinds.split(","), 0
    shares = sum(KINDS[kind].share for kind in chosen)
    print(f"{'kind':10}{'files':>9}{'results':>9}{'refused':>9}{'other':>7}{'peak MB':>9}{'seconds':>9}", flush=True)
    for kind in chosen:
        seeds = sound_files(kind)
        seconds = float("inf") if options.full else 60 * options.minutes * KINDS[kind].share / shares
        tally = run(kind, seeds, range(options.count or KINDS[kind].count), options.seed, seconds, options.jobs)
        ends = [tally.ends[end] for end in (RESULT, REFUSED, "other")]
        print(f"{kind:10}{sum(ends):9}{ends[0]:9}{ends[1]:9}{ends[2]:7}{tally.peak:9}{tally.seconds:9.0f}", flush=True)
        alike: dict[str, list[tuple[int, str]]] = {}
        for number, end in tally.failures:
            alike.setdefault(": ".join(end.split(": ")[:2]), []).append((number, end))
        for (number, end), *more in alike.values():
            place = keep(kind, seeds, number, options.seed, options.keep)
            again = f"again by --seed {options.seed} --case {kind}:{number}"
            print(f"  {place}: {again}{f' (and {len(more)} like it)' if more else ''}\n    {end.strip()}", flush=True)
        failed += ends[2]
    return min(failed, 1)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
