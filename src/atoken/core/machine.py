"""What the machine at hand can do: the fastest matrix product, and the memory that a process took."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import torch

REPEATS = 5
LONG = 1.0
"""Seconds from which on a call is measured once: CPUs without bf16 take minutes for a product of 2048."""
MATMUL_SIDES = (1024, 2048)
CUDA_SIDES = (4096, 8192)
"""A large card is not busy with less."""


@lru_cache
def has_amx() -> bool:
    """Whether the CPU multiplies bf16 matrices in tiles (AMX); False with a torch (before 2.11) that does not tell."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16", False))


def matmul_peak(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations a second of the fastest square matrix product."""
    best = 0.0
    for side in CUDA_SIDES if device.startswith("cuda") else MATMUL_SIDES:
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        seconds = best_seconds(partial(torch.matmul, a, b), device)
        best = max(best, 2 * side**3 / seconds)
        if seconds > LONG:
            break
    return best


def best_seconds(call: Callable[[], object], device: str) -> float:
    """Seconds of the fastest of five calls, after one that counts only where it takes more than ``LONG``."""
    first = seconds_of(call, device)
    return first if first > LONG else min(seconds_of(call, device) for _ in range(REPEATS))


def seconds_of(call: Callable[[], object], device: str) -> float:
    """Seconds of one call, with what it leaves to the device."""
    start = time.perf_counter()
    call()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


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
