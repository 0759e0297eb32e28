"""How the C library treats freed memory. What is set holds for the process; without glibc nothing is."""

from __future__ import annotations

import ctypes
import sys

LARGE = 128 * 1024
"""Bytes from which on a block has a mapping of its own: glibc's own limit, before it starts to raise it."""
MAPPINGS = 65536
"""How many such mappings there may be: glibc's own limit."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""Of mallopt in <malloc.h>."""


def keep_freed_memory() -> None:
    """From now on keep what is freed, in place of handing it back to the system.

    Tensors on the CPU of some ten megabytes are made and freed thousands of times a training step, and the system
    clears every page that it hands out again, which takes longer than most of what is computed on them.
    """
    _mallopt(M_MMAP_MAX, 0)
    _mallopt(M_TRIM_THRESHOLD, -1)


def give_back_large_blocks() -> None:
    """From now on hand large blocks back to the system as soon as they are freed.

    glibc raises its limit for them to the largest block that was freed so far, and keeps what is below; where one
    thread makes what another frees, holes gather between blocks for as long as a video lasts.
    """
    _mallopt(M_MMAP_MAX, MAPPINGS)
    _mallopt(M_MMAP_THRESHOLD, LARGE)


def _mallopt(parameter: int, value: int) -> None:
    function = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if function is not None:
        function(parameter, value)
