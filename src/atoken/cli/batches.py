"""The walk over many files: in batches of a bounded number of tokens, no file stopping the others."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..device import is_short_of_memory
from .paths import Job, is_outdated
from .report import Report, sentence

_OF_ONE_FILE = {errno.EISDIR, errno.ENOTDIR, errno.EINVAL, errno.ELOOP, errno.ENAMETOOLONG, errno.EILSEQ}
"""Errors of writing that say something about one name; all others (full, read-only, forbidden) end the command."""

Loaded = tuple[Job, Any]


class Task(ABC):
    """What is done with each file. Methods raise ``ValueError`` or ``OSError`` for a file that does not work."""

    def finished(self, target: Path) -> bool:
        """Whether the result is there already."""
        return target.exists()

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
    """Do all ``jobs``; only an ``OSError`` that every further file would meet too is raised."""
    with report.progress(len(jobs)):
        for batch in _batches(task, jobs, report, budget, overwrite):
            for (job, item), result in _computed(task, batch, report):
                _write(task, job, item, result, report)


def _batches(task: Task, jobs: Sequence[Job], report: Report, budget: int, overwrite: bool) -> Iterator[list[Loaded]]:
    """Neighbouring inputs of at most ``budget`` tokens together; a larger one goes alone.

    Each list is emptied when the next one is wanted, so that only one batch is in memory.
    """
    batch: list[Loaded] = []
    used = 0
    for job in jobs:
        try:
            if not overwrite and task.finished(job.target) and not is_outdated(job):
                report.skip()
                continue
            if task.alone(job.source):
                _convert(task, job, report)
                continue
            item = task.read(job.source)
            count = task.count(item)
        except (ValueError, OSError) as error:
            report.fail(sentence(error, job.source))
            continue
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
    try:
        return list(zip(batch, task.compute([item for _, item in batch]), strict=True))
    except (ValueError, MemoryError, RuntimeError) as error:
        short_of_memory = is_short_of_memory(error)
        if not (isinstance(error, ValueError) or short_of_memory):
            raise
        if len(batch) == 1:
            job, item = batch[0]
            memory = f"{job.source}: not enough memory for its {task.count(item)} tokens at once"
            report.fail(memory if short_of_memory else sentence(error, job.source))
            return []
    return [pair for loaded in batch for pair in _computed(task, [loaded], report)]


def _convert(task: Task, job: Job, report: Report) -> None:
    try:
        tokens = task.convert(job.source, job.target)
    except ValueError as error:
        report.fail(sentence(error, job.source))
    except (MemoryError, RuntimeError) as error:
        if not is_short_of_memory(error):
            raise
        report.fail(f"{job.source}: not enough memory for one tile of it")
    except OSError as error:
        if error.filename == str(job.source):
            report.fail(sentence(error, job.source))
        else:
            _fail_to_write(job, report, error)
    else:
        report.wrote(job.target, tokens)


def _write(task: Task, job: Job, item: Any, result: Any, report: Report) -> None:
    try:
        task.write(job.target, item, result)
    except ValueError as error:
        report.fail(sentence(error, job.source))
    except OSError as error:
        _fail_to_write(job, report, error)
    else:
        report.wrote(job.target, task.count(item))


def _fail_to_write(job: Job, report: Report, error: OSError) -> None:
    """Keep an error about one name; raise one that every further file would meet too."""
    if error.errno in _OF_ONE_FILE:
        report.fail(f"{job.source}: cannot write {sentence(error)}")
        return
    written = f"stopped with {report.written} written, and running the same command again continues"
    raise OSError(error.errno, f"{error.strerror or error}; {written}", str(error.filename or job.target)) from error
