"""Processes that prepare batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING

from torch.utils.data import DataLoader, Dataset

from .batch import Batch

if TYPE_CHECKING:
    from .feeds import Feed


class ByWorkers:
    """The batches of a feed whose batch n is the same in every run, prepared in advance by ``workers`` processes.

    Each of them builds a feed of its own. Raises what ``build`` raises.
    """

    def __init__(self, build: Callable[[], Feed], workers: int) -> None:
        build()  # says here what is missing
        self.build, self.workers = build, workers
        self._coming: Iterator[Batch | ValueError] = iter(())
        self._next = -1

    def batch(self, number: int) -> Batch:
        """Batch ``number``; the processes begin anew where it is not the one after the last."""
        if number != self._next:
            self._coming = iter(
                DataLoader(
                    _Numbered(self.build),
                    batch_size=None,
                    sampler=count(number),
                    num_workers=self.workers,
                    worker_init_fn=own_group,
                )
            )
        batch = next(self._coming)
        if isinstance(batch, ValueError):
            raise batch
        self._next = number + 1
        return batch


class _Numbered(Dataset["Batch | ValueError"]):
    """A feed that is built where its batches are asked for."""

    def __init__(self, build: Callable[[], Feed]) -> None:
        self.build = build
        self.feed: Feed | None = None

    def __getitem__(self, number: int) -> Batch | ValueError:
        self.feed = self.feed or self.build()
        try:
            return self.feed.batch(number)
        except ValueError as error:  # handed on as it is: DataLoader would put the worker's traceback into it
            return error


def own_group(_: int) -> None:
    """Keep a worker away from Ctrl-C and from the SIGTERM that torchrun sends a rank's group: the rank ends it."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
