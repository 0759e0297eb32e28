"""WebDataset shards, read by rank and worker without overlap, each stream able to go on exactly where it stood."""

from __future__ import annotations

import glob
import logging
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..core.errors import ReadError, reading
from ..core.text import shortened
from .batch import Batch, Sample, fill, pack
from .config import SCHEMES, FeedConfig, is_command
from .readers import read_sample
from .seeds import feed_seed
from .tar_samples import samples
from .workers import own_group, shared

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cursor:
    """Where a stream stands: so many epochs and shards are done, and so many samples of the present shard were used."""

    epoch: int = 0
    place: int = 0
    used: int = 0


def find_shards(names: Sequence[str]) -> list[str]:
    """Files and addresses that ``names`` stand for: folders of .tar files, files, addresses, braces expanded.

    Files come as absolute paths, so that no name of one is ever taken for an address or a command. Raises
    ``FileNotFoundError`` for a local name without shards.
    """
    import braceexpand

    found: list[str] = []
    for name in (expanded for given in names for expanded in braceexpand.braceexpand(given)):
        if name.startswith(SCHEMES) or is_command(name):
            found.append(name)
            continue
        path = Path(name.removeprefix("file://"))
        files = sorted(map(str, path.glob("*.tar"))) if path.is_dir() else sorted(glob.glob(str(path)))
        if not files:
            raise FileNotFoundError(f"no shards at {name}: `atoken data pack` makes them from a folder")
        found += [os.path.abspath(file) for file in files]
    return found


def stream(
    shards: Sequence[str],
    index: int,
    streams: int,
    seed: tuple[int, ...],
    buffer: int,
    start: Cursor,
    read: Callable[[dict[str, Any], np.random.Generator], Sample],
) -> Iterator[tuple[Sample, dict[str, Any]]]:
    """Samples of stream ``index`` of ``streams``, for ever, each with the cursor after it.

    Every epoch has its own order of the shards, the same for all streams, of which each takes every ``streams``-th;
    inside a shard samples are shuffled through a buffer. Both depend on ``seed`` alone, that of all ranks, as what
    ``read`` draws does. A sample that ``read`` refuses is left out with a warning. Raises ``ValueError`` for a shard
    that cannot be read and where a whole epoch has no sample that can.
    """
    epoch, place, used = start.epoch, start.place, start.used
    refused = ""
    while True:
        given = used > 0 or place > 0
        order = np.random.default_rng((*seed, epoch, 1)).permutation(len(shards))[index::streams]
        for place in range(place, len(order)):  # noqa: B020
            shard = shards[order[place]]
            rng = np.random.default_rng((*seed, epoch, int(order[place]), 2))
            for number, raw in enumerate(_shuffled(samples(shard), buffer, rng)):
                if number < used:
                    continue
                key = str(raw["__key__"]).encode("utf-8", "surrogateescape")
                draw = np.random.default_rng((*seed, epoch, int(order[place]), zlib.crc32(key), 3))
                where = f"{shard}, sample {shortened(raw['__key__'])}"
                try:
                    with reading(where, "mend or remove it"):
                        sample = read(raw, draw)
                except ReadError as error:
                    refused = str(error) if where in str(error) else f"{where}: {error}"
                    log.warning("left out: %s", refused)
                    continue
                given = True
                yield sample, asdict(Cursor(epoch, place, number + 1))
            used = 0
        if not given:
            raise ReadError(f"no sample of {shards[order[0]]} can be read; the last: {refused}")
        epoch, place = epoch + 1, 0


def _shuffled(samples: Iterator[dict[str, Any]], size: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    held: list[dict[str, Any]] = []
    for sample in samples:
        held.append(sample)
        if len(held) > size:
            yield _drawn(held, rng)
    while held:
        yield _drawn(held, rng)


def _drawn(held: list[dict[str, Any]], rng: np.random.Generator) -> dict[str, Any]:
    place = int(rng.integers(len(held)))
    held[place], held[-1] = held[-1], held[place]
    return held.pop()


class _Batches(IterableDataset["Batch | ValueError | OSError"]):
    """Batches of one stream for each worker process; pickled into them."""

    def __init__(self, feed: ShardFeed) -> None:
        self.feed = feed

    def __iter__(self) -> Iterator[Batch | ValueError | OSError]:
        worker = get_worker_info()
        try:
            for batch in self.feed.batches((worker.id if worker else 0) + self.feed.turn):
                yield shared(batch) if worker else batch
        except (ValueError, OSError) as error:  # as it is: DataLoader would put its traceback into it
            yield error


class ShardFeed:
    """Batches of at most the task's ``tokens`` and ``samples`` out of its shards, for one rank.

    A cursor of another number of ranks or workers starts the epoch that it stood in anew, divided among the new ones.
    Raises ``FileNotFoundError`` where shards are missing, ``ValueError`` where they are fewer than readers.
    """

    def __init__(
        self, task: FeedConfig, seed: int, rank: int = 0, world: int = 1, cursor: dict[str, Any] | None = None
    ) -> None:
        if find_spec("webdataset") is None:
            raise ValueError("shards need: pip install 'atoken[train]'")
        assert task.shards is not None
        self.task, self.config, self.seed, self.rank, self.world = task, task.shards, seed, rank, world
        self.shards = find_shards(self.config.shards)
        self.readers = max(1, self.config.workers)
        if len(self.shards) < self.readers * world:
            raise ValueError(
                f"{len(self.shards)} shards cannot be divided among {world} ranks with {self.readers} workers each: "
                "make smaller shards or take fewer workers"
            )
        self.cursors = [Cursor() for _ in range(self.readers)]
        self.turn = 0
        if cursor:
            self._go_on(cursor)
        self._batches: Iterator[Batch | ValueError | OSError] | None = None

    def _go_on(self, cursor: dict[str, Any]) -> None:
        """Stand where ``cursor`` says. Raises ``ValueError`` for one that no feed has written."""
        with reading(f"the cursor of {self.task.task} in the checkpoint", "delete the checkpoint"):
            streams = [Cursor(**each) for each in cursor["streams"]]
            counts = [count for stream in streams for count in (stream.epoch, stream.place, stream.used)]
            turn = cursor["turn"]
            if not counts or any(type(count) is not int or count < 0 for count in (*counts, turn)):
                raise ValueError("counts must be 0 or more")
            same = (cursor["world"], cursor["readers"]) == (self.world, self.readers)
            if same and (len(streams) != self.readers or turn >= self.readers):
                raise ValueError("it has another number of streams")
        self.cursors = streams if same else [Cursor(epoch=streams[0].epoch) for _ in range(self.readers)]
        self.turn = turn if same else 0

    def batch(self, number: int) -> Batch:
        """The next batch, whatever its number: streams know where they stand."""
        if self._batches is None:
            workers = self.config.workers
            loader = DataLoader(
                _Batches(self),
                batch_size=None,
                num_workers=workers,
                prefetch_factor=2 if workers else None,
                worker_init_fn=own_group,
            )
            self._batches = iter(loader)
        batch = next(self._batches)
        if isinstance(batch, (ValueError, OSError)):
            raise batch
        self.cursors[self.turn] = Cursor(**batch.cursor)
        self.turn = (self.turn + 1) % self.readers
        streams = [asdict(cursor) for cursor in self.cursors]
        cursor = {"world": self.world, "readers": self.readers, "turn": self.turn, "streams": streams}
        return Batch(batch.packed, batch.samples, batch.seed, cursor)

    def batches(self, worker: int) -> Iterator[Batch]:
        """Batches of one worker's stream."""
        worker = worker % self.readers
        task, own = self.task, feed_seed(self.seed, self.task.task, self.rank)
        found = stream(
            self.shards,
            self.rank * self.readers + worker,
            self.readers * self.world,
            own[:2],  # all ranks must agree on the order of shards
            self.config.buffer,
            self.cursors[worker],
            lambda raw, rng: read_sample(raw, self.config, task.tokens, rng, captions=task.about_text),
        )
        for group, cursor in fill(found, task.tokens, task.samples):
            key = (*own, worker, cursor["epoch"], cursor["place"], cursor["used"])
            yield pack(group, int(np.random.default_rng(key).integers(2**62)), cursor)
