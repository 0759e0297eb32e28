"""Writing files so that a reader sees either the old file or the complete new one, never a part, after a crash too."""

import errno
import os
import re
import secrets
import shutil
import socket
import time
import zlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

try:
    import fcntl
except ImportError:  # Windows: nothing is locked, and leftovers stay
    fcntl = None  # type: ignore[assignment]

Writer = TypeVar("Writer", bound="AtomicWriter")

LOCK_SECONDS = 1.0
"""How long a write waits for its shared lock while another process removes leftovers."""

_swept: set[tuple[int, int]] = set()
"""Device and inode of folders whose leftovers this process has removed: one look at a folder is enough."""

_begun: deque[Path] = deque(maxlen=256)
"""Temporary files and folders that this process has begun last; most are gone."""


def remove_temporaries() -> None:
    """Remove the temporary files and folders that are being written: for a process that ends without unwinding."""
    for temporary in list(_begun):
        _remove(temporary)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; when the block ends well it becomes `path`.

    The temporary path does not exist yet, is unique to this call, and keeps the suffix of `path`. Whatever writes
    it decides its permissions (so the umask holds), but a file that is replaced hands its own mode on. Missing
    parent folders are created. A symbolic link stays: the file it points to is replaced.

    The file is on the disk before it gets its name, and the name before this returns (fsync). If the block or the
    replacement fails, for any reason, the temporary file is removed and `path` is as it was. What a killed process left
    behind in the folder is removed by the first write there of the next one on the same machine (docs/tokens.md).

    Raises:
        IsADirectoryError: `path` is a folder.
        OSError: `path` is a device, pipe or socket, the folder cannot be made or written, or the disk is full; the
            error carries the name of `path`. An error about another file, raised in the block, passes unchanged.
    """
    target = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    _refuse_unless_replaceable(target)
    with _becoming(target) as temporary:
        yield temporary
        if target.exists():
            with suppress(OSError):  # a file system without modes
                shutil.copymode(target, temporary)
        _sync(temporary)
        os.replace(temporary, target)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder beside `path`; when the block ends well it becomes `path`, with all that was put into it.

    As ``atomic_write`` in all else. Raises ``FileExistsError`` where there is something of that name, and ``OSError``.
    """
    target = Path(os.path.abspath(path))
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, "is there already: give the name of a new folder", str(path))
    with _becoming(target) as temporary:
        temporary.mkdir()
        yield temporary
        sync_tree(temporary)
        os.rename(temporary, target)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """``atomic_folder``, or `path` itself where there is such a folder already."""
    with nullcontext(path) if path.is_dir() else atomic_folder(path) as folder:
        yield folder


@contextmanager
def _becoming(target: Path) -> Iterator[Path]:
    """A name beside ``target`` for what the block makes and renames to it; removed where it does not.

    Parent folders are made, and on the disk afterwards. An ``OSError`` about it, or what lies in it, names ``target``.
    """
    made = [folder for folder in target.parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target)) from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error
    temporary = target.with_name(f"{_prefix()}{os.getpid()}-{secrets.token_hex(8)}{target.suffix}")
    _begun.append(temporary)
    with _in_use(target.parent):
        try:
            yield temporary
            for folder in (target.parent, *(new.parent for new in made)):
                _sync(folder)
        except OSError as error:
            _remove(temporary)
            name = str(temporary if error.filename is None else error.filename)
            if error.errno is None or not name.startswith(str(temporary)):
                raise
            raise OSError(error.errno, error.strerror, name.replace(str(temporary), str(target), 1)) from error
        except BaseException:
            _remove(temporary)
            raise


class AtomicWriter(ABC):
    """A writer whose file is there, complete, after a ``with`` block without an error, and else is as it was."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @abstractmethod
    def _written(self) -> AbstractContextManager[object]:
        """Writes the file about the block: opens it before, and adds after it what is known only then."""

    def __enter__(self: Writer) -> Writer:
        self._block = self._written()
        self._block.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._block.__exit__(*error)


def sync_tree(folder: str | os.PathLike[str]) -> None:
    """Wait until all files and folders below `folder`, and its own name, are on the disk: call it before a rename.

    Raises `OSError`.
    """
    for root, _, files in os.walk(folder):
        for name in files:
            _sync(Path(root, name))
        _sync(Path(root))
    _sync(Path(folder).absolute().parent)


def _sync(path: Path) -> None:
    """`fsync` of a file or a folder. Raises `OSError` with its name."""
    if os.name == "nt" and path.is_dir():  # Windows does not open folders
        return
    try:
        descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    except PermissionError:  # it may be written and not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot
            raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)


def _prefix() -> str:
    """What names of temporary files begin with: they tell the machine, as locks may not reach from one to another."""
    return f".atoken-{zlib.crc32(socket.gethostname().encode()):08x}-"


@contextmanager
def _in_use(folder: Path) -> Iterator[None]:
    """Hold a shared lock on `folder`, which tells others not to remove temporary files in it, after removing leftovers.

    The kernel gives a lock up when its process ends, however that happens, and process numbers play no part.
    """
    with ExitStack() as stack:
        if fcntl is not None:
            with suppress(OSError):  # a folder that cannot be read, or a file system without locks
                descriptor = os.open(folder, os.O_RDONLY)
                stack.callback(os.close, descriptor)
                _remove_leftovers(folder, descriptor)
                _lock_shared(descriptor)
        yield


def _remove_leftovers(folder: Path, descriptor: int) -> None:
    """Remove the temporary files and folders of dead processes, once for each folder; not while anyone writes there."""
    about = os.fstat(descriptor)
    if (about.st_dev, about.st_ino) in _swept:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    pattern = re.compile(re.escape(_prefix()) + r"\d+-[0-9a-f]{16}(\..*)?")
    with os.scandir(folder) as entries:
        leftovers = [entry.path for entry in entries if pattern.fullmatch(entry.name)]
    for leftover in leftovers:
        _remove(Path(leftover))
    _swept.add((about.st_dev, about.st_ino))


def _lock_shared(descriptor: int) -> None:
    """Lock, or turn an exclusive lock into a shared one; without it where another program keeps the folder locked."""
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                return
            time.sleep(0.01)


def _refuse_unless_replaceable(target: Path) -> None:
    """Raise OSError unless `target` is a regular file or free to be one."""
    if target.is_symlink():  # realpath() leaves a link only where links form a loop
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(target))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "Is a folder, give the name of a file", str(target))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "Is not a regular file, so it is not replaced", str(target))


def _remove(temporary: Path) -> None:
    if temporary.is_dir() and not temporary.is_symlink():
        shutil.rmtree(temporary, ignore_errors=True)
        return
    with suppress(OSError):  # the first error is the one to report
        temporary.unlink(missing_ok=True)
