"""Many sources through one model: read ahead, batched by a budget, order kept, and no source stopping the others."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from torch import Tensor

from ..codec.assets import read_any
from ..core.prefetch import prefetch
from ..media.image.files import read_image
from ..media.kinds import modality_of
from ..tokens.patch import FRAME_FEATURES

MOST_WAITING = 1024
"""Inputs that wait for their batch to be full, those that could not be read among them."""
K = TypeVar("K")
Compute = Callable[[list[Any]], Iterable[Any]]
"""The results of a batch, one for each input."""


@dataclass
class Item(Generic[K]):
    """An input on its way: what was read of it, and what came of that or went wrong."""

    key: K
    value: Any = None
    """What was read."""
    count: int = 0
    """What it takes of the budget; 0 where reading failed."""
    result: Any = None
    error: Exception | None = None


@dataclass(frozen=True)
class Result:
    """What became of one source of ``encode_many`` or ``embed_many``."""

    key: Any
    """Its key, its path, or its place among the items."""
    value: Any = None
    """Its ``Tokens``, or its embedding fp32 [D]; None where it failed."""
    error: Exception | None = None
    """Why it failed: a ``ValueError`` or ``OSError`` of bad input, or whatever else was raised."""


def _same(key: Any) -> Any:
    return key


def _one(value: Any) -> int:
    return 1


def in_batches(
    keys: Iterable[K],
    compute: Compute,
    *,
    budget: int,
    read: Callable[[K], Any] = _same,
    count: Callable[[Any], int] = _one,
    read_ahead: int = 0,
) -> Generator[Item[K], None, None]:
    """Each key with its result or its error, in order; neighbours of at most ``budget`` are computed together.

    A larger one is computed alone. Where a batch fails, each of it is tried alone. Up to ``read_ahead`` inputs are read
    in advance, in another thread, which ends when this iterator is closed. Only what ``keys`` raises is raised.
    """

    def load(key: K) -> Item[K]:
        item = Item(key)
        try:
            item.value = read(key)
            item.count = count(item.value)
        except Exception as error:  # whatever a reader raises is about this input
            item.error = error
        return item

    loaded = (load(key) for key in keys)
    with closing(prefetch(loaded, read_ahead) if read_ahead else loaded) as items:
        waiting: list[Item[K]] = []
        used = 0
        ended: Exception | None = None
        while True:
            try:
                item = next(items)
            except StopIteration:
                break
            except Exception as error:  # of ``keys``: those before it come first
                ended = error
                break
            if waiting and (used + item.count > budget or len(waiting) == MOST_WAITING):
                yield from _computed(waiting, compute)
                waiting.clear()  # before the next one is read
                used = 0
            waiting.append(item)
            used += item.count
            if item.error is not None and not used:  # there is nothing to wait for
                yield waiting.pop()
        yield from _computed(waiting, compute)
        if ended is not None:
            raise ended


def _computed(batch: Sequence[Item[K]], compute: Compute) -> Iterator[Item[K]]:
    """The batch with results; where it fails as a whole, each of it is tried alone when its turn comes."""
    sound = [item for item in batch if item.error is None]
    done = len(sound) > 1 and _fill(sound, compute) is None
    for item in batch:
        if not done and item.error is None:
            item.error = _fill([item], compute)
        yield item


def _fill(items: Sequence[Item[K]], compute: Compute) -> Exception | None:
    """Compute the results of ``items``, or say why that failed."""
    try:
        for item, result in zip(items, list(compute([item.value for item in items])), strict=True):
            item.result = result
    except Exception as error:  # whatever the model raises is about these inputs
        return error
    return None


def many(
    items: Iterable[Any],
    compute: Compute,
    *,
    budget: int,
    read_ahead: int,
    progress: Callable[[int], None] | None,
) -> Generator[Result, None, None]:
    """The results of ``compute`` for sources, or for pairs of a key and a source; see ``AToken.encode_many``."""
    found = in_batches(
        _with_keys(items),
        compute,
        budget=budget,
        read=lambda pair: _read(pair[1]),
        count=lambda source: min(_tokens(source) or budget, budget),
        read_ahead=read_ahead,
    )
    with closing(found):
        for done, item in enumerate(found, start=1):
            if progress is not None:
                progress(done)
            yield Result(item.key[0], item.result, item.error)


def _with_keys(items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    for index, item in enumerate(items):
        if isinstance(item, tuple) and len(item) == 2:
            yield item
        else:
            yield item if isinstance(item, str | os.PathLike) else index, item


def _read(source: Any) -> Any:
    """A picture or 3D source in memory; videos are read while they are encoded."""
    modality = modality_of(source)
    if modality == "image" and not isinstance(source, np.ndarray | Tensor):
        return read_image(source)
    return read_any(source) if modality == "3d" else source


def _tokens(source: Any) -> int | None:
    """About how many tokens a picture has; None for what is computed alone."""
    is_picture = isinstance(source, np.ndarray | Tensor) and source.ndim == 3
    return math.prod(source.shape) // FRAME_FEATURES + 1 if is_picture else None
