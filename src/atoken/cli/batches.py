"""The work on many files, no file stopping the others: what is done, what is skipped, and what the report says."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..pipeline.bulk import in_batches
from .paths import Job, is_outdated
from .report import EndOfAll, Report, sentence

_OF_ALL_FILES = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ESTALE),
}
"""Errors of writing that every further file would meet too: the disk is full, forbidden or gone."""


class Task(ABC):
    """What is done with each file. Methods raise ``ValueError`` or ``OSError`` for a file that does not work."""

    note: Callable[[Path, str], None]
    """Says how far the work on a file is; ``process`` sets it."""

    def finished(self, job: Job) -> bool:
        """Whether the result is there already."""
        return job.target.exists()

    @contextmanager
    def recorded(self, job: Job) -> Iterator[None]:
        """Note how the result was made that the block writes."""
        yield

    def alone(self, path: Path) -> bool:
        """Whether a file goes through ``convert`` by itself, because it may be longer than memory."""
        return False

    @abstractmethod
    def convert(self, source: Path, target: Path) -> int:
        """From a file that goes alone to its result, all or nothing; returns the number of its tokens."""

    @abstractmethod
    def read(self, path: Path) -> Any:
        """The input in memory."""

    @abstractmethod
    def count(self, item: Any) -> int:
        """Tokens of an input."""

    @abstractmethod
    def compute(self, items: Sequence[Any]) -> Sequence[Any]:
        """The results of a batch."""

    @abstractmethod
    def write(self, target: Path, item: Any, result: Any) -> None:
        """Write one result, all or nothing."""


def process(task: Task, jobs: Sequence[Job], report: Report, *, budget: int, overwrite: bool) -> None:
    """Do all ``jobs``, those that go alone last; only an ``OSError`` that every further file would meet too is raised.

    Whatever else one of them raises is reported and stops no other.
    """
    task.note = report.note
    alone = {job: task.alone(job.source) for job in jobs}

    def is_left(job: Job) -> bool:
        return overwrite or not task.finished(job) or is_outdated(job)

    def read(job: Job) -> Any:
        if is_left(job):
            return task.read(job.source)
        raise _Finished

    try:
        with report.progress(len(jobs)):
            together = [job for job in jobs if not alone[job]]
            for item in in_batches(together, task.compute, budget=budget, read=read, count=task.count):
                job = item.key
                if isinstance(item.error, _Finished):
                    report.skip()
                    continue
                with report.isolated(job.source, f"its {item.count} tokens at once" if item.count else "it"):
                    if item.error is not None:
                        raise item.error
                    with _writing(job, report), task.recorded(job):
                        task.write(job.target, item.value, item.result)
                        report.wrote(job.target, item.count)
            for job in (job for job in jobs if alone[job]):
                with report.isolated(job.source, "one tile of it"):
                    if is_left(job):
                        with _writing(job, report), task.recorded(job):
                            report.wrote(job.target, task.convert(job.source, job.target))
                    else:
                        report.skip()
    except EndOfAll as error:
        raise error.error from None


class _Finished(Exception):
    """The result is there already."""


@contextmanager
def _writing(job: Job, report: Report) -> Iterator[None]:
    """Tell errors of writing the result that every further file would meet too from those about one name."""
    try:
        yield
    except OSError as error:
        if isinstance(error, BrokenPipeError) or error.filename == str(job.source):
            raise
        if error.errno not in _OF_ALL_FILES:
            raise ValueError(f"{job.source}: cannot write {sentence(error, job.target)}") from error
        written = f"stopped with {report.written} written, and running the same command again continues"
        reason = f"{error.strerror or error}; {written}"
        raise EndOfAll(OSError(error.errno, reason, str(error.filename or job.target))) from error
