"""From what the user typed to files, and from files to the names of their results."""

from __future__ import annotations

import errno
import os
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

_MAGIC = frozenset("*?[")


@dataclass(frozen=True)
class Source:
    """An input file, and where it lies below the folder or pattern that named it."""

    path: Path
    below: Path


@dataclass(frozen=True)
class Job:
    """An input file and the file to make of it."""

    source: Path
    target: Path


@dataclass(frozen=True)
class LeftOut:
    """Files of folders that are no inputs, counted by ending."""

    others: Counter[str] = field(default_factory=Counter)
    """Of kinds that are not read."""
    parts: Counter[str] = field(default_factory=Counter)
    """Textures, buffers and such, which are read with the file that names them."""

    def __str__(self) -> str:
        """One line; nothing where there are none."""
        others, parts = (
            ", ".join(f"{count} {ending}" for ending, count in sorted(kind.items()))
            for kind in (self.others, self.parts)
        )
        return "; ".join(filter(None, (others, parts and f"{parts} as parts of other files")))


def expand(
    inputs: Sequence[str],
    wanted: Callable[[Path], bool],
    what: str,
    left_out: LeftOut | None = None,
    belonging: Callable[[Path], Collection[Path]] | None = None,
) -> tuple[list[Source], list[str]]:
    """Files that ``inputs`` name, sorted and each once, and one sentence for each input that names none.

    A file is taken as it is. Folders are searched to the bottom and patterns (``*``, ``?``, ``[...]``, ``**``) are
    matched, for files that ``wanted`` accepts; names with a leading dot are left out, and so are pipes, devices and
    sockets. Links to folders are followed, each folder being read once, so that a loop of links ends. ``what`` is the
    word for such a file.

    ``left_out`` counts the files of the folders that are no inputs. ``belonging`` says which files are parts of a
    wanted one, such as the pictures of posed views: in a folder they are no inputs of their own.
    """
    found: dict[str, Source] = {}
    named: set[str] = set()
    unwanted: dict[str, str] = {}
    parts: set[str] = set()
    problems: list[str] = []
    real = cache(os.path.realpath)  # folders hold many files, which take longer to resolve than to read the names of

    def place(path: Path) -> str:
        """The same for all names of a folder; a link to a file stays a name of its own."""
        folder, name = os.path.split(path)
        return os.path.join(real(folder), name)

    def add(path: Path, below: Path) -> None:
        found.setdefault(place(path), Source(path, below))

    def is_input(path: Path) -> bool:
        if wanted(path):
            return True
        unwanted[place(path)] = _ending(path)
        return False

    for text in inputs:
        path = Path(text)
        before = len(problems)
        if text and path.is_dir():  # an empty name is no name, though Path makes the current folder of it
            matches = [(p, p.relative_to(path)) for p in _walk(path, None, problems) if is_input(p)]
            complaint = f"{text}: no {what} in this folder"
        elif not os.path.lexists(path) and _MAGIC & set(text):
            root, pattern = _split(path)
            depth = None if "**" in pattern else len(pattern)
            below = ((p, p.relative_to(root)) for p in _walk(root, depth, problems) if wanted(p))
            matches = [(p, rest) for p, rest in below if _fits(rest.parts, pattern)]
            complaint = f"{text}: no {what} matches"
        else:
            matches = [(path, Path(path.name))] if text and path.exists() else []
            named.update(place(path) for path, _ in matches)
            complaint = f"{text or repr(text)}: no such file or folder"
        for match in matches:
            add(*match)
        if not matches and len(problems) == before:
            problems.append(complaint)
    if belonging is not None:
        for source in list(found.values()):
            for part in map(place, belonging(source.path)):
                if part not in named and (part in found or part in unwanted):
                    parts.add(part)
                    found.pop(part, None)
                    unwanted.pop(part, None)
    if left_out is not None:
        left_out.others.update(ending for at, ending in unwanted.items() if at not in found)
        left_out.parts.update(_ending(Path(part)) for part in parts)
    return sorted(found.values(), key=lambda source: source.path), problems


def plan(sources: Iterable[Source], name: Callable[[Source, bool], Path]) -> tuple[list[Job], list[str]]:
    """The job of each source, and one sentence for each that would destroy something.

    ``name`` gives the target of a source; those that would share one get the longer name that it gives for True.
    """
    sources = list(sources)
    inputs = {identity for source in sources if (identity := _identity(source.path))}
    taken: dict[str, Path] = {}
    jobs: list[Job] = []
    problems: list[str] = []
    for source, target in zip(sources, _targets(sources, name), strict=True):
        key = _key(target)
        if key in taken:
            problems.append(f"{source.path}: its result {target} is already that of {taken[key]}; give another --out")
        elif _identity(target) in inputs:
            problems.append(f"{source.path}: its result {target} is itself an input; give another --out")
        else:
            taken[key] = source.path
            jobs.append(Job(source.path, target))
    return jobs, problems


def is_outdated(job: Job) -> bool:
    """Whether the source has changed since its result was made."""
    try:
        return os.stat(job.target).st_mtime_ns < os.stat(job.source).st_mtime_ns
    except OSError:
        return False


def names_result(
    inputs: Sequence[str], out: Path, known: Collection[str], fitting: Callable[[Path], Collection[str]]
) -> bool:
    """Whether ``out`` is the name of the result itself, rather than a folder: it has one of the ``known`` suffixes.

    Raises ``ValueError`` unless there is one input, a file, and the suffix is ``fitting`` for it.
    """
    if out.suffix.lower() not in known or out.is_dir():
        return False
    if len(inputs) != 1 or not os.path.exists(inputs[0]) or os.path.isdir(inputs[0]):
        raise ValueError(f"--out {out} names one file, which needs one file as the input: give a folder")
    suffixes = fitting(Path(inputs[0]))
    if out.suffix.lower() not in suffixes:
        endings = " or ".join(sorted(suffixes))
        raise ValueError(f"--out {out}: what comes of {inputs[0]} ends in {endings}: give such a name or a folder")
    return True


def check_folder(folder: Path) -> None:
    """Raise ``OSError`` where ``folder`` can clearly not be made or written."""
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not existing.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is not a folder, so nothing can be written there", str(existing))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "this folder is not writable", str(existing))


def _targets(sources: Sequence[Source], name: Callable[[Source, bool], Path]) -> list[Path]:
    targets = [name(source, False) for source in sources]
    while True:  # a longer name may be another's short one
        count = Counter(map(_key, targets))
        longer = [
            name(source, True) if count[_key(target)] > 1 else target
            for source, target in zip(sources, targets, strict=True)
        ]
        if longer == targets:
            return targets
        targets = longer


def _ending(path: Path) -> str:
    return path.suffix.lower() or "without an ending"


def _key(target: Path) -> str:
    return os.path.normcase(os.path.abspath(target))


def _walk(root: Path, depth: int | None, problems: list[str]) -> Iterator[Path]:
    """Files below ``root``, at most ``depth`` levels down; real folders first, then those behind links."""
    seen: set[str] = set()
    waiting = deque([(root, 1)])
    while waiting:
        folder, level = waiting.popleft()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as scan:
                entries = [entry for entry in scan if not entry.name.startswith(".")]
        except FileNotFoundError:
            continue  # a pattern below a folder that does not exist matches nothing
        except OSError as error:
            problems.append(f"{folder}: {error.strerror}")
            continue
        for entry in entries:
            if not os.path.isdir(entry):  # unlike the method of the same name, no error for a link to itself
                if os.path.isfile(entry) or not os.path.exists(entry):  # a dangling link is an input that fails
                    yield folder / entry.name
            elif depth is None or level < depth:
                add = waiting.append if entry.is_symlink() else waiting.appendleft
                add((folder / entry.name, level + 1))


def _split(pattern: Path) -> tuple[Path, tuple[str, ...]]:
    """A pattern as the folder before its first wildcard and the parts from there on."""
    first = next(i for i, part in enumerate(pattern.parts) if _MAGIC & set(part))
    return Path(*pattern.parts[:first]), pattern.parts[first:]


def _fits(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and number of a file, the same under all of its names; None where there is no file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
