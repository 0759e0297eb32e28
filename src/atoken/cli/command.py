"""What ``encode``, ``decode`` and ``reconstruct`` have in common: from inputs to results and a report."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from ..codec import TOKEN_BUDGET
from ..gaussians.formats.files import SPLAT_SUFFIXES as SPLATS_WRITTEN
from ..media.image.files import WRITABLE_SUFFIXES
from ..media.kinds import modality_of
from ..media.suffixes import ASSET_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES
from ..pipeline.atoken import AToken
from ..weights.load import load
from . import forecast, options, paths
from .assets import PAGE_SUFFIX
from .batches import Task, process
from .record import Record
from .report import Report, bytes_text, say, seconds_text
from .settings import MOVIE_SUFFIXES, Running
from .sources import owned_files

TOKEN_SUFFIXES = frozenset({".atok"})
PICTURE_SUFFIXES = WRITABLE_SUFFIXES
"""Pictures that are written."""
SOLID_SUFFIXES = MOVIE_SUFFIXES | SPLATS_WRITTEN | {PAGE_SUFFIX}
"""What Gaussians are written as."""
KNOWN_SUFFIXES = TOKEN_SUFFIXES | IMAGE_SUFFIXES | VIDEO_SUFFIXES | SOLID_SUFFIXES | ASSET_SUFFIXES

Chosen = TypeVar("Chosen", bound=Running)


class Command(Task, Generic[Chosen]):
    """A task with a model, and its place on the command line."""

    what: str
    """Word for an input."""

    def __init__(self, settings: Chosen) -> None:
        self.settings = settings
        self.budget = settings.token_budget or TOKEN_BUDGET
        self.record = Record()

    def load(self, name: str) -> AToken:
        """The model of that name, on the device and in the precision of the options."""
        return load(name, device=self.settings.device, dtype=options.parse_dtype(self.settings.dtype))

    def made_with(self, source: Path) -> dict[str, str]:
        """The options that change the result of a source."""
        return {"--dtype": self.settings.dtype}

    def finished(self, job: paths.Job) -> bool:
        """Whether the result is there; ``ValueError`` where it was made with other options."""
        return job.target.exists() and self.record.check(job.target, self.made_with(job.source))

    @contextmanager
    def recorded(self, job: paths.Job) -> Iterator[None]:
        """Note the options that the result was made with, which the block writes."""
        with self.record.writing(job.target, self.made_with(job.source)):
            yield

    @classmethod
    @abstractmethod
    def wants(cls, path: Path) -> bool:
        """Whether a file in a folder is an input."""

    @classmethod
    @abstractmethod
    def ending(cls, path: Path, settings: Chosen) -> str:
        """What the name of a file's result has in place of the suffix."""

    @classmethod
    @abstractmethod
    def suffixes(cls, path: Path) -> frozenset[str]:
        """Those that the name of a file's result may have."""

    def extent(self, path: Path) -> forecast.Extent | None:
        """What an input takes, going by its header; None where only reading it tells."""
        return None

    @abstractmethod
    def speed(self) -> forecast.Speed:
        """How fast this machine does it."""

    def token_bytes(self) -> int:
        """Bytes of a token in the results; 0 where they are no token files."""
        return 0

    def say_what_comes(self, files: Sequence[Path]) -> None:
        """Say what work on ``files`` takes where it is long."""
        work = forecast.estimate(files, self.extent, self.speed)
        if work is None or work.seconds < forecast.LONG:
            return
        size = f" ({bytes_text(work.tokens * self.token_bytes())})" if self.token_bytes() else ""
        more = f", and {work.unknown} files whose tokens only reading them tells" if work.unknown else ""
        say(
            f"{len(files)} to do: about {work.tokens:,} tokens{size} in about {seconds_text(work.seconds)}, as "
            f"measured on this machine{more}{self.remedy}"
        )

    remedy = ""
    """What makes long work shorter."""

    def conclude(self) -> None:
        """Print what there is to say beyond the summary."""
        return


def run(command: type[Command[Chosen]], inputs: Sequence[str], settings: Chosen) -> None:
    """Find the inputs, do the work, and report. Raises ``typer.Exit`` of 2 where an input failed, 1 where we did."""
    report, left_out = Report(), paths.LeftOut()
    sources, report.failures = paths.expand(inputs, command.wants, command.what, left_out, owned_files)
    if not sources:
        raise ValueError("; ".join(report.failures))
    settings.check_inputs({modality_of(source.path) for source in sources})
    single = paths.names_result(inputs, settings.out, KNOWN_SUFFIXES, command.suffixes)
    if single:
        settings.check_name()

    def target(source: paths.Source, whole: bool) -> Path:
        if single:
            return settings.out
        kept = source.below.name if whole else source.below.stem
        return settings.out / source.below.with_name(kept + command.ending(source.path, settings))

    jobs, problems = paths.plan(sources, target)
    report.failures += problems
    waiting = [job for job in jobs if settings.overwrite or not job.target.exists() or paths.is_outdated(job)]
    if waiting:
        paths.check_folder(settings.out.parent if single else settings.out)
    if str(left_out):
        say(f"left out: {left_out}")
    task = command(settings)
    task.say_what_comes([job.source for job in waiting])
    process(task, jobs, report, budget=task.budget, overwrite=settings.overwrite)
    task.conclude()
    report.close(settings.out)
