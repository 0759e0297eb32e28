"""What the machine at hand can do: the fastest matrix product, and the memory that a process took."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

REPEATS = 5


MATMUL_SIDES = (1024, 2048)


def matmul_peak(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations a second of the fastest square matrix product."""
    best = 0.0
    for side in MATMUL_SIDES:
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        best = max(best, 2 * side**3 / best_seconds(partial(torch.matmul, a, b), device))
    return best


def best_seconds(call: Callable[[], object], device: str) -> float:
    """Seconds of the fastest of five calls, after one that does not count."""
    call()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def peak_memory(device: str) -> int | None:
    """Most bytes that this process, or on CUDA its allocator, held so far; None where the system does not tell."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return None
    status = Path("/proc/self/status")
    if status.exists():  # the other way would count what the parent held when it started this process
        return next(int(line.split()[1]) * 1024 for line in status.open() if line.startswith("VmHWM"))
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
