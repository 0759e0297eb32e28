"""What a command says: results on stdout, everything else on stderr, one line each."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ..core.text import clean, shortened

STDERR = Console(stderr=True)
ROOM = 40
"""Characters beside the bar."""
DEBUG = "ATOKEN_DEBUG"
"""Environment variable that asks for the tracebacks of internal errors."""


def say(text: str) -> None:
    """One line on stderr, above the progress bar if there is one; nothing in it is markup."""
    STDERR.print(Text(clean(text)), soft_wrap=True)


def progress_bar() -> Progress:
    """A bar on stderr with counts and the time that is left; nothing where that is no terminal."""
    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}")
    quiet = not sys.stderr.isatty()
    return Progress(
        *columns, console=STDERR, transient=True, redirect_stdout=False, redirect_stderr=False, disable=quiet
    )


@contextmanager
def counting(total: int | None = None, what: str = "") -> Iterator[Callable[..., None]]:
    """A bar while the block calls what is yielded with the number that is done and, once it is known, of how many."""
    with progress_bar() as bar:
        task = bar.add_task(what, total=total)

        def advance(done: int, total: int | None = None) -> None:
            bar.update(task, completed=done, total=total)

        yield advance


def sentence(error: Exception, path: object = None) -> str:
    """The message of an error, led by the file it is about."""
    reason = str(error)
    if isinstance(error, OSError) and error.strerror:
        reason, path = error.strerror, error.filename or path
    return reason if path is None or str(path) in reason else f"{path}: {reason}"


def show_table(header: Sequence[str], rows: Sequence[Sequence[object]], words: Sequence[str] = ()) -> None:
    """A table on stdout, never cut off in a file or pipe; columns are numbers but for the first and ``words``."""
    table = Table(box=None, pad_edge=False)
    for name in header:
        table.add_column(Text(clean(name)), justify="left" if name in (header[0], *words) else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)


def bytes_text(count: int) -> str:
    """A number of bytes as people read it."""
    if count < 1000:
        return f"{count} bytes"
    value, unit = next(
        (count / scale, unit) for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if count >= scale
    )
    return f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"


def seconds_text(seconds: float) -> str:
    """A time as people read it."""
    for unit, scale, below in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 100)):
        if seconds < below * scale:
            return f"{seconds / scale:.2g} {unit}" if seconds < 10 * scale else f"{seconds / scale:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


class EndOfAll(Exception):
    """Carries an error that every further file would meet too, so that it ends the command."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass
class Report:
    """What became of each input."""

    written: int = 0
    skipped: int = 0
    tokens: int = 0
    bytes: int = 0
    failures: list[str] = field(default_factory=list)
    faults: int = 0
    """How many of the failures are faults of this program."""

    def __post_init__(self) -> None:
        self._bar: Progress | None = None
        self._total = self._before = 0
        self._since = time.monotonic()

    def wrote(self, path: Path, tokens: int) -> None:
        """Count a finished output."""
        size = path.stat().st_size
        self.written += 1
        self.tokens += tokens
        self.bytes += size
        seconds = time.monotonic() - self._since
        self._show(path, f"{tokens} tokens, {bytes_text(size)}, {seconds_text(seconds)}", done=True)

    def skip(self) -> None:
        """Count an output that was there before."""
        self.skipped += 1
        self._show(None, "", done=True)

    def fail(self, path: Path, reason: str) -> None:
        """Keep the sentence about an input that did not work."""
        self.failures.append(reason)
        self._show(path, "failed", done=True)

    def fault(self, path: Path, error: Exception) -> None:
        """Keep the sentence about an input at which this program failed; the traceback is shown where DEBUG is set."""
        if os.environ.get(DEBUG):
            for line in "".join(traceback.format_exception(error)).splitlines():
                say(line)
        what = f"{type(error).__name__}: {shortened(error)}".rstrip(": ")
        self.faults += 1
        self.fail(
            path,
            f"{path}: internal error ({what}), a fault of atoken and not of this file: please report it with the file "
            f"and the traceback that {DEBUG}=1 shows",
        )

    @contextmanager
    def isolated(self, path: Path, needed: str = "it") -> Iterator[None]:
        """Whatever the block raises is a failure of this one input, but for ``EndOfAll``.

        Takes every class of exception, as ``core.errors.reading`` and ``pipeline.bulk`` do: what nobody thought of is
        reported as a fault of ours, and the other files go on. ``needed`` is what memory did not suffice for.
        """
        try:
            yield
        except (EndOfAll, BrokenPipeError):  # the reader of stderr has gone
            raise
        except (ValueError, OSError) as error:
            self.fail(path, sentence(error, path))
        except Exception as error:
            from ..core.device import is_short_of_memory  # brings torch, which help does not need

            if is_short_of_memory(error):
                self.fail(path, f"{path}: not enough memory for {needed}")
            else:
                self.fault(path, error)

    def note(self, path: Path, how_far: str) -> None:
        """How far the work on an input is: beside the bar, or a line where stderr is not a terminal."""
        self._show(path, how_far, done=False)

    @contextmanager
    def progress(self, total: int) -> Iterator[None]:
        """Show a bar on stderr while the block counts ``total`` inputs; a line for each where it is not a terminal."""
        self._before, self._total = len(self.failures), total
        with progress_bar() as bar:
            bar.add_task("", total=total)
            self._bar, self._since = bar, time.monotonic()
            try:
                yield
            finally:
                self._bar = None

    def _show(self, path: Path | None, text: str, done: bool) -> None:
        if self._bar is None:
            return
        failed = len(self.failures) - self._before
        count = self.written + self.skipped + failed
        if not self._bar.disable:
            parts = [f"{failed} failed"] if failed else []
            if path is not None and not done:
                parts.append(shortened(f"{path.name}: {text}", ROOM))
            self._bar.update(self._bar.task_ids[0], completed=count, description=escape(", ".join(parts)))
        elif path is not None:
            say(f"[{count}/{self._total}] {path}: {text}")
        if done:
            self._since = time.monotonic()

    def close(self, where: Path) -> None:
        """Print the summary, then the failures. Raises ``typer.Exit(2)`` where there are any, 1 for a fault of ours."""
        if self.written or self.skipped:
            typer.echo(clean(self._summary(where)))
        self.conclude()

    def conclude(self) -> None:
        """Print the failures. Raises ``typer.Exit(2)`` where there are any, 1 for a fault of ours."""
        for failure in self.failures:
            say(f"error: {failure}")
        if self.failures:
            raise typer.Exit(1 if self.faults else 2)

    def _summary(self, where: Path) -> str:
        parts = [f"{self.written} written"]
        if self.skipped:
            parts.append(f"{self.skipped} skipped (already there; --overwrite writes them again)")
        if self.failures:
            parts.append(f"{len(self.failures)} failed")
        if self.written:
            parts.append(f"{self.tokens} tokens, {bytes_text(self.bytes)}")
        return f"{', '.join(parts)}, in {where}"
