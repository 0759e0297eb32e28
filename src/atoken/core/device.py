"""Which device to compute on, and whether its memory was enough."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def find_device(value: str | torch.device | None, name: str = "device") -> torch.device:
    """The device of that name: CUDA where there is one and the CPU otherwise, unless ``value`` says which.

    Raises ``ValueError`` for a device that is none or that this machine does not have; ``name`` is what it is called.
    """
    if value is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(value)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"{name} is {str(value)!r}: give cpu, cuda, cuda:N or mps")
    count = {"cuda": torch.cuda.device_count, "mps": lambda: int(torch.backends.mps.is_available())}
    found = count[device.type]() if device.type in count else 1
    if found <= (device.index or 0):
        raise ValueError(
            f"{name} is {str(value)!r}, and PyTorch finds {found or 'no'} such device here: try {name} cpu"
        )
    return device


@contextmanager
def enough_memory(shortage: str) -> Iterator[None]:
    """Turn a lack of memory into a ``ValueError`` that says ``shortage``; other errors pass."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_short_of_memory(error):
            raise
        raise ValueError(shortage) from error


def is_short_of_memory(error: Exception) -> bool:
    """Whether an error says that memory did not suffice, on the CPU or elsewhere."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
