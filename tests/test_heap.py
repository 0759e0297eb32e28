"""What the C library is told about freed memory."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes
import numpy as np
from atoken.heap import LARGE, give_back_large_blocks

class Mallinfo(ctypes.Structure):
    _fields_ = [(str(n), ctypes.c_size_t) for n in range(4)] + [("hblkhd", ctypes.c_size_t)]
    _fields_ += [(str(n), ctypes.c_size_t) for n in range(5, 10)]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Mallinfo
np.empty(64 * LARGE, np.uint8)  # freed at once: from now on glibc by itself would keep blocks up to this size
give_back_large_blocks()
before = libc.mallinfo2().hblkhd  # bytes in mappings of their own
blocks = [np.empty(2 * LARGE, np.uint8) for _ in range(8)]
assert libc.mallinfo2().hblkhd - before >= 16 * LARGE
del blocks
assert libc.mallinfo2().hblkhd == before
"""


@pytest.mark.skipif(sys.platform != "linux", reason="speaks to glibc")
def test_large_blocks_go_back_when_freed():
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("not glibc 2.33 or newer")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)  # a heap without holes yet
    assert done.returncode == 0, done.stderr
