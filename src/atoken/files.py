"""Writing files so that a reader sees either the old file or the complete new one, never a part."""

import errno
import os
import secrets
import shutil
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_begun: deque[Path] = deque(maxlen=256)
"""Temporary files that this process has begun last; most are gone."""


def remove_temporaries() -> None:
    """Remove the temporary files that are being written: for a process that ends without unwinding."""
    for temporary in list(_begun):
        _remove(temporary)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; when the block ends well it becomes `path`.

    The temporary path does not exist yet, is unique to this call, and keeps the suffix of `path`. Whatever writes
    it decides its permissions (so the umask holds), but a file that is replaced hands its own mode on. Missing
    parent folders are created. A symbolic link stays: the file it points to is replaced.

    If the block or the replacement fails, for any reason, the temporary file is removed and `path` is as it was.

    Raises:
        IsADirectoryError: `path` is a folder.
        OSError: `path` is a device, pipe or socket, the folder cannot be made or written, or the disk is full; the
            error carries the name of `path`. An error about another file, raised in the block, passes unchanged.
    """
    target = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    _refuse_unless_replaceable(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target)) from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error

    temporary = target.with_name(f".{os.getpid()}-{secrets.token_hex(8)}{target.suffix}")
    _begun.append(temporary)
    try:
        yield temporary
        if target.exists():
            with suppress(OSError):  # a file system without modes
                shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except OSError as error:
        _remove(temporary)
        if error.errno is None or error.filename not in (None, str(temporary), temporary):
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error
    except BaseException:
        _remove(temporary)
        raise


def _refuse_unless_replaceable(target: Path) -> None:
    """Raise OSError unless `target` is a regular file or free to be one."""
    if target.is_symlink():  # realpath() leaves a link only where links form a loop
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(target))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "Is a folder, give the name of a file", str(target))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "Is not a regular file, so it is not replaced", str(target))


def _remove(temporary: Path) -> None:
    with suppress(OSError):  # the first error is the one to report
        temporary.unlink(missing_ok=True)
