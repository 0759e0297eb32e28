"""Which task has its turn at which step: a round robin by ratio, the same in every run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .config import TurnConfig


@dataclass(frozen=True)
class Draw:
    """One batch that a step needs."""

    task: str
    number: int
    """How many batches the task has had before, from the start of the run."""
    share: float
    """What the batch's losses are multiplied by: 1 / (batches that the task has in a step)."""


def turns(tasks: Sequence[TurnConfig], start: int = 0) -> Iterator[list[Draw]]:
    """The draws of steps ``start``, ``start + 1``, ...: of all tasks without a ratio, and of the one whose turn it is.

    The turn goes to the task that is furthest behind its share, the first of equals, so every prefix of the run holds
    the ratios to within one step.
    """
    rotating = [task for task in tasks if task.ratio]
    total = sum(task.ratio or 0.0 for task in rotating)
    had = dict.fromkeys((task.task for task in tasks), 0)
    step = 0
    while True:
        chosen = max(rotating, key=lambda task: (task.ratio or 0.0) / total * (step + 1) - had[task.task])
        joined = [task for task in tasks if task.ratio is None or task is chosen]
        if step >= start:
            yield [
                Draw(task.task, had[task.task] * task.accumulate + part, 1 / task.accumulate)
                for task in joined
                for part in range(task.accumulate)
            ]
        for task in joined:
            had[task.task] += 1
        step += 1
