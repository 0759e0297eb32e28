"""What a command says: results on stdout, everything else on stderr, one line each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

STDERR = Console(stderr=True)


def clean(text: object) -> str:
    """``text`` as one line that any terminal can show: file names may hold line ends and escape sequences."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def say(text: str) -> None:
    """One line on stderr, above the progress bar if there is one; nothing in it is markup."""
    STDERR.print(Text(clean(text)), soft_wrap=True)


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
        table.add_column(name, justify="left" if name in (header[0], *words) else "right", overflow="fold")
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


@dataclass
class Report:
    """What became of each input."""

    written: int = 0
    skipped: int = 0
    tokens: int = 0
    bytes: int = 0
    failures: list[str] = field(default_factory=list)
    changed: Callable[[], None] = lambda: None
    """Called after each input."""

    def wrote(self, path: Path, tokens: int) -> None:
        """Count a finished output."""
        self.written += 1
        self.tokens += tokens
        self.bytes += path.stat().st_size
        self.changed()

    def skip(self) -> None:
        """Count an output that was there before."""
        self.skipped += 1
        self.changed()

    def fail(self, text: str) -> None:
        """Keep the sentence about an input that did not work."""
        self.failures.append(text)
        self.changed()

    @contextmanager
    def progress(self, total: int) -> Iterator[None]:
        """Show a bar on stderr while the block counts ``total`` inputs; none where stderr is not a terminal."""
        before = len(self.failures)
        columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}")
        with Progress(
            *columns,
            console=STDERR,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not sys.stderr.isatty(),
        ) as bar:
            task = bar.add_task("", total=total)

            def show() -> None:
                failed = len(self.failures) - before
                done = self.written + self.skipped + failed
                bar.update(task, completed=done, description=f"{failed} failed" if failed else "")

            self.changed = show
            yield

    def close(self, where: Path) -> None:
        """Print the summary, then the failures. Raises ``typer.Exit(2)`` where there are any."""
        if self.written or self.skipped:
            typer.echo(clean(self._summary(where)))
        for failure in self.failures:
            say(f"error: {failure}")
        if self.failures:
            raise typer.Exit(2)

    def _summary(self, where: Path) -> str:
        parts = [f"{self.written} written"]
        if self.skipped:
            parts.append(f"{self.skipped} skipped (already there; --overwrite writes them again)")
        if self.failures:
            parts.append(f"{len(self.failures)} failed")
        if self.written:
            parts.append(f"{self.tokens} tokens, {bytes_text(self.bytes)}")
        return f"{', '.join(parts)}, in {where}"
