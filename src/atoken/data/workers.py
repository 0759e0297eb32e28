"""Processes that prepare batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

    def __init__(self, build: Callable[[], Feed[Batch]], workers: int) -> None:
        build()  # says here what is missing
        self.build, self.workers = build, workers
        self._coming: Iterator[Batch | ValueError | OSError] = iter(())
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
        if isinstance(batch, (ValueError, OSError)):
            raise batch
        self._next = number + 1
        return batch


class _Numbered(Dataset["Batch | ValueError | OSError"]):
    """A feed that is built where its batches are asked for."""

    def __init__(self, build: Callable[[], Feed[Batch]]) -> None:
        self.build = build
        self.feed: Feed[Batch] | None = None

    def __getitem__(self, number: int) -> Batch | ValueError | OSError:
        try:
            self.feed = self.feed or self.build()
            return shared(self.feed.batch(number))
        except (ValueError, OSError) as error:  # as it is: DataLoader would put its traceback into it
            return error


def shared(batch: Batch) -> Batch:
    """The same batch, its packed tensors moved to where other processes find them.

    Raises ``OSError`` where there is no room for them: left to the queue between the processes, a batch without room
    is lost, and the trainer waits for it for ever.
    """
    packed = (batch.packed.feats, batch.packed.coords)
    try:
        for tensor in packed:
            tensor.share_memory_()
    except RuntimeError as error:
        size = sum(tensor.nbytes for tensor in packed) / 1e6
        raise OSError(
            f"no room for a batch of {size:.3g} MB in the memory that processes share: take fewer workers, or make it "
            "larger (/dev/shm; in a container --shm-size)"
        ) from error
    return batch


@contextmanager
def worker_killed_as_oserror() -> Iterator[None]:
    """Inside, a worker that was killed is an ``OSError`` of one sentence."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise OSError(
            "a process that prepares batches was killed, most likely for want of memory: take fewer workers; the run "
            "goes on from its last checkpoint"
        ) from error


def own_group(_: int) -> None:
    """Keep a worker away from Ctrl-C and from the SIGTERM that torchrun sends a rank's group: the rank ends it."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
