"""From the recipe to batches: one feed for each task, prepared by processes where there are some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, TypeVar

from .assets import Assets
from .batch import Batch
from .clips import Clips
from .config import FeedConfig, TurnConfig
from .crops import Crops
from .cutouts import Cutouts
from .mixing import Draw, turns
from .seeds import feed_seed
from .workers import ByWorkers


class FeedBatch(Protocol):
    """What the training loop asks of a batch."""

    @property
    def cursor(self) -> dict[str, Any]:
        """Where its feed stands after it, as JSON-ready values; empty where batch n is the same in every run."""
        ...

    def pinned(self) -> Any:
        """The same batch in pinned memory."""
        ...


AnyConfig = TypeVar("AnyConfig", bound=FeedConfig)
AnyBatch = TypeVar("AnyBatch", bound=FeedBatch, covariant=True)


class Feed(Protocol[AnyBatch]):
    """A source of batches for one task on one rank."""

    def batch(self, number: int) -> AnyBatch:
        """Batch ``number``; numbers are asked for in order."""
        ...


def build_feed(
    task: FeedConfig, seed: int, rank: int = 0, world: int = 1, cursor: dict[str, Any] | None = None
) -> Feed[Batch]:
    """The feed of a task, going on from ``cursor``. Raises ``FileNotFoundError`` or ``ValueError``."""
    if task.shards is not None:
        from .shards import ShardFeed

        return ShardFeed(task, seed, rank, world, cursor)
    build = partial(_numbered, task, seed, rank)
    return ByWorkers(build, task.workers) if task.workers else build()


def _numbered(task: FeedConfig, seed: int, rank: int) -> Feed[Batch]:
    """The feed of a task whose batch n is the same in every run."""
    if task.crops is not None:
        return Crops(task.crops, task.tokens, seed, rank, task.task)
    if task.clips is not None:
        return Clips(task.clips, task.tokens, seed, rank, task.task)
    if task.cutouts is not None:
        return Cutouts(task.cutouts, task.tokens, seed, rank, task.task)
    if task.feed is not None:
        return task.feed.build(task.tokens, feed_seed(seed, task.task, rank))
    assert task.assets is not None
    return Assets(task.assets, task.tokens, seed, rank, task.task, task.samples)


def without_workers(task: AnyConfig) -> AnyConfig:
    """The same data, read where it is asked for."""
    return replace(task, workers=0, shards=task.shards and replace(task.shards, workers=0))


def step_batches(
    tasks: Sequence[TurnConfig], feeds: Mapping[str, Feed[AnyBatch]], start: int, end: int, pinned: bool = False
) -> Iterator[list[tuple[Draw, AnyBatch]]]:
    """The batches of steps ``start`` ... ``end - 1``; ``pinned``: in memory that CUDA copies from asynchronously."""
    for _, draws in zip(range(start, end), turns(tasks, start), strict=False):
        batches = [(draw, feeds[draw.task].batch(draw.number)) for draw in draws]
        yield [(draw, batch.pinned()) for draw, batch in batches] if pinned else batches
