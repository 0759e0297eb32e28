"""What the C library is told about freed memory."""

from __future__ import annotations

import ctypes
import sys

import numpy as np
import pytest

from atoken.heap import LARGE, give_back_large_blocks, keep_freed_memory


class Mallinfo(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks")),
        *((name, ctypes.c_size_t) for name in ("fsmblks", "uordblks", "fordblks", "keepcost")),
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="speaks to glibc")
def test_large_blocks_go_back_when_freed():
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        pytest.skip("not glibc 2.33 or newer")
    libc.mallinfo2.restype = Mallinfo
    np.empty(64 * LARGE, np.uint8)  # freed at once: from now on glibc by itself would keep blocks up to this size
    keep_freed_memory()  # as a training run before it in the same process
    give_back_large_blocks()
    before = libc.mallinfo2().hblkhd  # bytes in mappings of their own
    blocks = [np.empty(2 * LARGE, np.uint8) for _ in range(8)]
    assert libc.mallinfo2().hblkhd - before >= 16 * LARGE
    del blocks
    assert libc.mallinfo2().hblkhd == before
