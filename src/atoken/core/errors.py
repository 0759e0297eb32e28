"""The one error for what cannot be read, and the boundary that turns a decoder's exceptions into it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from .text import shortened

_OF_OPENING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_OF_THE_DISK = {errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.ESTALE, errno.EMFILE, errno.ENFILE}


class ReadError(ValueError):
    """A file, or data from a file, that cannot be read. The message is one sentence that names the file."""


@contextmanager
def reading(name: object, remedy: str = "save or download it again") -> Iterator[None]:
    """Turn whatever a decoder raises about the content of ``name`` into a ``ReadError`` that names it.

    Wrap the calls of foreign decoders and parsers with it, and nothing else: they raise nearly every class there is
    on damaged input (``TypeError``, ``RecursionError``, ``struct.error``, ``MemoryError`` for sizes that a header makes
    up), so that no list of classes would hold.

    Passes unchanged: a ``ReadError`` (an inner boundary knew more), and errors of opening the file (missing, forbidden,
    a folder) or of the disk while it is read (``EIO``, ``ENOSPC``).

    Args:
        name: What the message begins with: the path as the user gave it.
        remedy: What the user can do; ends the sentence.
    """
    try:
        yield
    except (ReadError, Warning, *_OF_OPENING):  # a warning where the caller has made errors of them
        raise
    except Exception as error:  # decoders raise nearly every class there is
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            raise
        reason = shortened(error) or type(error).__name__
        raise ReadError(f"{name} is damaged or not what its name says ({reason}): {remedy}") from error
