"""The walk over many files: in batches of a bounded number of tokens, no file stopping the others."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .paths import Job, is_outdated
from .report import EndOfAll, Report, sentence

_OF_ALL_FILES = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ESTALE),
}
"""Errors of writing that every further file would meet too: the disk is full, forbidden or gone."""

Loaded = tuple[Job, Any]


class Task(ABC):
    """What is done with each file. Methods raise ``ValueError`` or ``OSError`` for a file that does not work."""

    def note(self, path: Path, how_far: str) -> None:
        """Say how far the work on a file is; ``process`` puts the report's in this place."""
        return

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

    def convert(self, source: Path, target: Path) -> int:
        """From a file that goes alone to its result, all or nothing; returns the number of its tokens."""
        raise NotImplementedError

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
    task.note = report.note  # type: ignore[method-assign]
    alone = {job: task.alone(job.source) for job in jobs}
    try:
        with report.progress(len(jobs)):
            for batch in _batches(task, [job for job in jobs if not alone[job]], report, budget, overwrite):
                for (job, item), result in _computed(task, batch, report):
                    with report.isolated(job.source, "it"), _writing(job, report), task.recorded(job):
                        task.write(job.target, item, result)
                        report.wrote(job.target, task.count(item))
            for job in (job for job in jobs if alone[job]):
                with report.isolated(job.source, "one tile of it"):
                    if not _is_finished(task, job, report, overwrite):
                        with _writing(job, report), task.recorded(job):
                            report.wrote(job.target, task.convert(job.source, job.target))
    except EndOfAll as error:
        raise error.error from None


def _is_finished(task: Task, job: Job, report: Report, overwrite: bool) -> bool:
    if overwrite or not task.finished(job) or is_outdated(job):
        return False
    report.skip()
    return True


def _batches(task: Task, jobs: Sequence[Job], report: Report, budget: int, overwrite: bool) -> Iterator[list[Loaded]]:
    """Neighbouring inputs of at most ``budget`` tokens together; a larger one goes alone.

    Each list is emptied when the next one is wanted, so that only one batch is in memory.
    """
    batch: list[Loaded] = []
    used = 0
    for job in jobs:
        loaded = None
        with report.isolated(job.source, "it"):
            if not _is_finished(task, job, report, overwrite):
                item = task.read(job.source)
                loaded = item, task.count(item)
        if loaded is None:
            continue
        item, count = loaded
        if batch and used + count > budget:
            yield batch
            batch.clear()
            used = 0
        batch.append((job, item))
        used += count
    if batch:
        yield batch


def _computed(task: Task, batch: list[Loaded], report: Report) -> list[tuple[Loaded, Any]]:
    """The batch with its results; where a batch fails, each of its files has a try alone."""
    if len(batch) > 1:
        with suppress(Exception):  # each of them alone says what it was, once the memory of the batch is free
            return list(zip(batch, task.compute([item for _, item in batch]), strict=True))
        return [pair for loaded in batch for pair in _computed(task, [loaded], report)]
    job, item = batch[0]
    with report.isolated(job.source, f"its {task.count(item)} tokens at once"):
        return list(zip(batch, task.compute([item]), strict=True))
    return []


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
