"""Items in batches of a bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def within_budget(
    items: Iterable[T], size: Callable[[T], int], budget: int, most: int | None = None
) -> Iterator[list[T]]:
    """Neighbours in lists of at most ``most`` items and sizes of at most ``budget`` together; a larger one is alone.

    Each list is emptied when the next one is wanted, so that only one of them is in memory.
    """
    batch: list[T] = []
    used = 0
    for item in items:
        count = size(item)
        if batch and (used + count > budget or len(batch) == most):
            yield batch
            batch.clear()
            used = 0
        batch.append(item)
        used += count
    if batch:
        yield batch
