"""The C library's allocator, told what long work needs of it."""

from __future__ import annotations

import ctypes
import sys

LARGE = 128 * 1024
"""Bytes from which on a block has a mapping of its own: glibc's own limit, before it starts to raise it."""

_M_MMAP_THRESHOLD = -3  # malloc.h


def give_back_large_blocks() -> None:
    """Have glibc give large blocks back to the system as soon as they are freed, in this process from now on.

    It raises its limit for them to the largest block that was freed so far, and keeps what is below; where one thread
    makes what another frees, holes gather between blocks for as long as a video lasts. Does nothing where the C
    library is another one, whose memory is then as that one keeps it.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, LARGE)
