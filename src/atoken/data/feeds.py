"""From the recipe to batches: one feed for each task, read ahead in a thread, and by processes where there are some."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from .assets import Assets
from .batch import Batch
from .clips import Clips
from .config import FeedConfig
from .crops import Crops
from .cutouts import Cutouts
from .mixing import Draw, turns
from .workers import ByWorkers

Item = TypeVar("Item")


class Feed(Protocol):
    """A source of batches for one task on one rank."""

    def batch(self, number: int) -> Batch:
        """Batch ``number``; numbers are asked for in order."""
        ...


def build_feed(
    task: FeedConfig, seed: int, rank: int = 0, world: int = 1, cursor: dict[str, Any] | None = None
) -> Feed:
    """The feed of a task, going on from ``cursor``. Raises ``FileNotFoundError`` or ``ValueError``."""
    if task.shards is not None:
        from .shards import ShardFeed

        return ShardFeed(task, seed, rank, world, cursor)
    build = partial(_numbered, task, seed, rank)
    return ByWorkers(build, task.workers) if task.workers else build()


def _numbered(task: FeedConfig, seed: int, rank: int) -> Feed:
    """The feed of a task whose batch n is the same in every run."""
    if task.crops is not None:
        return Crops(task.crops, task.tokens, seed, rank, task.task)
    if task.clips is not None:
        return Clips(task.clips, task.tokens, seed, rank, task.task)
    if task.cutouts is not None:
        return Cutouts(task.cutouts, task.tokens, seed, rank, task.task)
    assert task.assets is not None
    return Assets(task.assets, task.tokens, seed, rank, task.task, task.samples)


def step_batches(
    tasks: Sequence[FeedConfig], feeds: dict[str, Feed], start: int, end: int, pinned: bool = False
) -> Iterator[list[tuple[Draw, Batch]]]:
    """The batches of steps ``start`` ... ``end - 1``, in pinned memory that CUDA copies from by itself if so asked."""
    for _, draws in zip(range(start, end), turns(tasks, start), strict=False):
        batches = [(draw, feeds[draw.task].batch(draw.number)) for draw in draws]
        yield [(draw, batch.pinned()) for draw, batch in batches] if pinned else batches


class ReadAhead(Generic[Item]):
    """Iterate over ``items`` while a thread prepares the next ``depth`` of them."""

    def __init__(self, items: Iterable[Item], depth: int = 2) -> None:
        self._ready: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(items,), daemon=True)

    def __enter__(self) -> Iterator[Item]:
        self._thread.start()
        return self._items()

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        while self._thread.is_alive():  # it may wait for room
            try:
                self._ready.get(timeout=0.05)
            except queue.Empty:
                continue

    def _items(self) -> Iterator[Item]:
        while True:
            item, error = self._ready.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item

    def _work(self, items: Iterable[Item]) -> None:
        try:
            for item in items:
                if self._closed.is_set():
                    return
                self._ready.put((item, None))
            self._ready.put((None, None))
        except BaseException as error:
            self._ready.put((None, error))
