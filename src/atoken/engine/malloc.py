"""Disable glibc malloc trimming."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Of mallopt in <malloc.h>, glibc."""


def disable_trim() -> None:
    """From now on this process keeps what it frees, in place of handing it back to the system; only with glibc.

    Tensors on the CPU of some ten megabytes are made and freed thousands of times a training step, and the system
    clears every page that it hands out again, which takes longer than most of what is computed on them. It holds for
    the whole process, so commands call it, never the library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
