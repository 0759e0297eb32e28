"""Whole data sets to token shards: one shard for each chunk, the same bytes however often the work was cut off."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..codec.assets import read_any
from ..core.batching import within_budget
from ..core.device import is_short_of_memory
from ..core.errors import ReadError
from ..core.files import atomic_write
from ..core.text import shortened
from ..media.image.crop import adm_crop, centre
from ..media.image.files import read_image
from ..media.kinds import modality_of
from ..media.video.frames import Frame, FrameSource
from ..media.video.source import open_video
from ..pipeline.atoken import AToken
from ..tokens.patch import PATCH
from ..tokens.samples import MIRRORED, TokenSample
from ..tokens.shards import ShardWriter, shard_name
from ..tokens.tokens import Tokens
from ..weights.load import load
from .items import Chunk, Raw, needs_file
from .workers import own_group


@dataclass(frozen=True)
class Settings:
    """All that the tokens depend on, and where they go."""

    model: str
    out: str
    kind: str | None = None
    size: int | None = None
    fps: float | None = None
    flip: bool = False
    embed: bool = False
    latents: str = "float16"
    dtype: str = "float32"
    device: str | None = None
    token_budget: int = 16384


class Done(NamedTuple):
    """What became of a chunk."""

    number: int
    samples: int
    tokens: int
    failed: int


def manifest_name(number: int) -> str:
    """Name of the manifest of a chunk, which is there once the chunk is done."""
    return f"{Path(shard_name(number)).stem}.jsonl"


def tokenize_chunk(settings: Settings, number: int, chunk: Chunk) -> Done:
    """Write the shard of a chunk, and then its manifest: a line of JSON for each sample, or the reason where it failed.

    Raises ``OSError`` where they cannot be written.
    """
    work = Work(_model(settings), settings)
    out = Path(settings.out)
    with tempfile.TemporaryDirectory(prefix="atoken-") as scratch:
        coming = work.samples(chunk, Path(scratch))
        first = next(coming, None)
        tokens = 0
        if first is None:
            (out / shard_name(number)).unlink(missing_ok=True)
        else:
            with ShardWriter(out / shard_name(number)) as writer:
                for sample in chain([first], coming):
                    writer.write(sample)
            tokens = writer.tokens
    lines = [line for _, line in sorted(work.lines, key=lambda noted: noted[0])]
    lines = [line | ({} if "error" in line else {"shard": shard_name(number)}) for line in lines]
    with atomic_write(out / manifest_name(number)) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))
    failed = sum("error" in line for line in lines)
    return Done(number, len(lines) - failed, tokens, failed)


def start_worker(index: Any, device: str | None) -> None:
    """Make a process one that tokenizes: it ends with its parent, and computes in one thread or on a GPU of its own.

    One thread, so that the bits do not depend on how many processes there are; GPUs are numbered in turn.
    """
    own_group(0)
    torch.set_num_threads(1)
    with index.get_lock():
        own, index.value = index.value, index.value + 1
    if device is None and torch.cuda.is_available():
        torch.cuda.set_device(own % torch.cuda.device_count())
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


@lru_cache(maxsize=1)
def _model(settings: Settings) -> AToken:
    """The model, loaded once in a process."""
    return load(settings.model, device=settings.device, dtype=getattr(torch, settings.dtype))


class Item(NamedTuple):
    """A sample that was read."""

    number: int
    """Place in its chunk."""
    raw: Raw
    source: Any
    """Picture, uint8 HWC; ``Shown``; or what ``read_any`` gives."""
    modality: str
    tokens: int
    """As many as it will have at most, or the whole budget where it goes alone."""
    scratch: Path | None = None
    """The file that its bytes were written to, for readers of files."""


@dataclass
class Work:
    """The samples of one chunk."""

    model: AToken
    settings: Settings
    lines: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """Of the manifest, with their places in the chunk: the samples that were done and those that failed."""
    seen: set[str] = field(default_factory=set)

    def samples(self, chunk: Chunk, scratch: Path) -> Iterator[TokenSample]:
        """The tokens of all samples that can be read, in order, each mirrored one after its original."""
        items = (
            item for number, raw in enumerate(chunk.raws()) if (item := self._read(number, raw, scratch)) is not None
        )
        for batch in within_budget(items, lambda item: item.tokens, self.settings.token_budget):
            for item, made in self._encoded(batch):
                for sample in made:
                    line = {"key": sample.key, "source": item.raw.where, "modality": item.modality}
                    self.lines.append((item.number, line | {"tokens": len(sample.tokens)}))
                    yield sample

    def _fail(self, number: int, raw: Raw, reason: str, scratch: Path | None = None) -> None:
        """Note why there is no sample, by the name that the user knows."""
        reason = reason if scratch is None else reason.replace(str(scratch), raw.where)
        self.lines.append((number, {"key": raw.key, "source": raw.where, "error": reason}))

    def _read(self, number: int, raw: Raw, scratch: Path) -> Item | None:
        """The sample in memory, a video as what will read it; None where it cannot be read, which is noted."""
        if raw.error is None and raw.key in self.seen:
            raw = raw._replace(error="another sample before it has the same key")
        if raw.error is not None:
            self._fail(number, raw, raw.error)
            return None
        self.seen.add(raw.key)
        file = None
        try:
            if isinstance(raw.media, bytes) and needs_file(raw.suffix):
                file = scratch / f"{number}{raw.suffix}"
                file.write_bytes(raw.media)
            return Item(number, raw._replace(media=None), *self._opened(raw, file or raw.media), file)
        except Exception as error:
            self._fail(number, raw, _reason(error), file)
            return None

    def _opened(self, raw: Raw, media: Any) -> tuple[Any, str, int]:
        """What ``AToken.encode`` takes, its modality, and ``Item.tokens``."""
        size, budget = self.settings.size, self.settings.token_budget
        modality = "image" if isinstance(media, bytes) else modality_of(media)
        if modality == "3d":
            return read_any(media), modality, budget
        if modality == "video":
            return Shown(open_video(media, size=size, fps=self.settings.fps), size), modality, budget
        picture = read_image(media, name=raw.where)
        picture = picture if size is None else adm_crop(picture, size)
        return picture, modality, -(-picture.shape[0] // PATCH[1]) * -(-picture.shape[1] // PATCH[2])

    def _encoded(self, batch: Sequence[Item]) -> Iterator[tuple[Item, list[TokenSample]]]:
        """The samples of each item; where a batch fails, each of its items has a try alone."""
        try:
            made = self._compute(batch)
        except Exception as error:
            if len(batch) == 1:
                self._fail(batch[0].number, batch[0].raw, _reason(error), batch[0].scratch)
            made = None
        if made is not None:
            yield from zip(batch, made, strict=True)
        elif len(batch) > 1:
            for item in list(batch):
                yield from self._encoded([item])
        for item in batch:
            if item.scratch is not None:
                item.scratch.unlink(missing_ok=True)

    def _compute(self, batch: Sequence[Item]) -> list[list[TokenSample]]:
        sources: list[Any] = []
        owners: list[tuple[int, str]] = []
        for number, item in enumerate(batch):
            sources.append(item.source)
            owners.append((number, item.raw.key))
            if self.settings.flip and item.modality != "3d":
                sources.append(_mirrored(item.source))
                owners.append((number, item.raw.key + MIRRORED))
        budget = self.settings.token_budget
        tokens: list[Tokens] = self.model.encode(sources, kind=self.settings.kind, token_budget=budget)
        vectors = self.model.embed(sources, token_budget=budget) if self.settings.embed else None
        made: list[list[TokenSample]] = [[] for _ in batch]
        for place, ((number, key), each) in enumerate(zip(owners, tokens, strict=True)):
            raw = batch[number].raw
            each = each.half() if self.settings.latents == "float16" else each
            extras = {} if vectors is None else {"embedding": vectors[place].clone()}
            made[number].append(
                TokenSample(key=key, tokens=each, label=raw.label, captions=raw.captions, extras=extras)
            )
        return made


class Shown(FrameSource):
    """The frames of a video, cropped to the middle and mirrored where wanted."""

    def __init__(self, frames: FrameSource, size: int | None, mirrored: bool = False) -> None:
        self.frames, self.size, self.mirrored = frames, size, mirrored

    def __iter__(self) -> Iterator[Frame]:
        for frame in self.frames:
            pixels = frame.pixels if self.size is None else centre(frame.pixels, self.size)
            yield frame._replace(pixels=pixels[:, ::-1] if self.mirrored else pixels)


def _mirrored(source: Any) -> Any:
    if isinstance(source, Shown):
        return Shown(source.frames, source.size, mirrored=True)
    return np.ascontiguousarray(source[:, ::-1])


def _reason(error: Exception) -> str:
    """One sentence about a sample that did not work."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, ReadError | ValueError | OSError):
        return str(error)
    if is_short_of_memory(error):
        return "not enough memory for it"
    return f"internal error ({type(error).__name__}: {shortened(error)}), a fault of atoken: please report it"
