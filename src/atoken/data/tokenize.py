"""Whole data sets to token shards: one shard for each chunk, the same bytes however often the work was cut off."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..codec import EncodeOptions, encode
from ..codec.assets import read_any
from ..codec.images import features
from ..core.device import is_short_of_memory
from ..core.errors import ReadError
from ..core.files import atomic_write
from ..core.text import shortened
from ..media.image.crop import adm_crop, centre
from ..media.image.files import read_image
from ..media.kinds import modality_of
from ..media.video.frames import Frame, FrameSource
from ..media.video.source import open_video
from ..media.views.packed import to_patches
from ..pipeline.atoken import AToken
from ..pipeline.bulk import in_batches
from ..tokens.patch import PATCH
from ..tokens.samples import FEATURES, LOGVAR, MIRRORED, TokenSample
from ..tokens.shards import ShardWriter, shard_name
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
    features: int | None = None
    """Blocks of the encoder after which its states are stored, too."""
    moments: bool = False
    """Whether log-variances are stored, too."""
    voxels: int | None = None
    """Voxels along a side of 3D, where not those of the model."""
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
    out = Path(settings.out)
    with tempfile.TemporaryDirectory(prefix="atoken-") as scratch:
        work = Work(_model(settings), settings, Path(scratch))
        coming = work.samples(chunk)
        first = next(coming, None)
        tokens = 0
        if first is None:
            (out / shard_name(number)).unlink(missing_ok=True)
        else:
            with ShardWriter(out / shard_name(number)) as writer:
                for sample in chain([first], coming):
                    writer.write(sample)
            tokens = writer.tokens
    lines = [line | ({} if "error" in line else {"shard": shard_name(number)}) for line in work.lines]
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


class Opened(NamedTuple):
    """A sample that was read, or a video that will be."""

    raw: Raw
    source: Any
    """What ``AToken.encode`` takes."""
    modality: str
    tokens: int
    """Of a picture; videos and 3D files go alone and count as the whole budget."""


@dataclass
class Work:
    """The samples of one chunk."""

    model: AToken
    settings: Settings
    scratch: Path
    """A folder for files that are bytes in a tar or a table, and whose readers want files."""
    lines: list[dict[str, Any]] = field(default_factory=list)
    """Of the manifest: the samples that were done and those that failed."""

    def samples(self, chunk: Chunk) -> Iterator[TokenSample]:
        """The tokens of all samples that can be read, in order, each mirrored one after its original."""
        budget = self.settings.token_budget
        items = in_batches(
            self._once(chunk.raws()), self._compute, budget=budget, read=self._read, count=_count, read_ahead=2
        )
        with closing(items):
            for item in items:
                line: dict[str, Any] = {"key": item.key.key, "source": item.key.where}
                if item.error is not None:
                    reason = _reason(item.error).replace(str(self._file(item.key)), item.key.where)
                    self.lines.append(line | {"error": reason})
                for sample in item.result or ():
                    line |= {"key": sample.key, "modality": item.value.modality, "tokens": len(sample.tokens)}
                    self.lines.append(dict(line))
                    yield sample
                self._file(item.key).unlink(missing_ok=True)

    def _once(self, raws: Iterator[Raw]) -> Iterator[Raw]:
        """Each sample, the second of one key with an error."""
        seen: set[str] = set()
        for raw in raws:
            twice = raw.error is None and raw.key in seen
            yield raw._replace(error="a sample before it has the same key") if twice else raw
            seen.add(raw.key)

    def _file(self, raw: Raw) -> Path:
        """Where the bytes of a sample go."""
        return self.scratch / f"{hashlib.sha256(raw.key.encode()).hexdigest()}{raw.suffix}"

    def _read(self, raw: Raw) -> Opened:
        """Raises whatever readers raise."""
        settings, media = self.settings, raw.media
        size, budget = settings.size, settings.token_budget
        if raw.error is not None or media is None:
            raise ReadError(raw.error or f"{raw.where}: there is nothing to read")
        if isinstance(media, bytes) and needs_file(raw.suffix):
            file = self._file(raw)
            file.write_bytes(media)
            media = file
        raw = raw._replace(media=None)
        if not isinstance(media, bytes):
            modality = modality_of(media)
            if modality == "3d":
                solid = read_any(media)
                return Opened(raw, to_patches(solid, settings.voxels) if settings.voxels else solid, modality, budget)
            if modality == "video":
                video = open_video(media, size=size, fps=self.settings.fps)
                return Opened(raw, Shown(video, size), modality, budget)
        picture = read_image(media, name=raw.where)
        picture = picture if size is None else adm_crop(picture, size)
        return Opened(raw, picture, "image", -(-picture.shape[0] // PATCH[1]) * -(-picture.shape[1] // PATCH[2]))

    def _compute(self, batch: list[Opened]) -> list[list[TokenSample]]:
        """The samples of each that was read: one, or two where it is mirrored, too."""
        sources: list[Any] = []
        owners: list[tuple[int, str]] = []
        for number, item in enumerate(batch):
            sources.append(item.source)
            owners.append((number, item.raw.key))
            if self.settings.flip and item.modality != "3d":
                sources.append(_mirrored(item.source))
                owners.append((number, item.raw.key + MIRRORED))
        budget = self.settings.token_budget
        kind = self.settings.kind or self.model.config.kinds[0]
        options = EncodeOptions(kind, token_budget=budget, moments=self.settings.moments)
        with torch.no_grad():
            tokens = encode(self.model, sources, options)
        vectors = self.model.embed(sources, token_budget=budget) if self.settings.embed else None
        states = self._features(sources, batch)
        made: list[list[TokenSample]] = [[] for _ in batch]
        for place, ((number, key), each) in enumerate(zip(owners, tokens, strict=True)):
            raw = batch[number].raw
            stored = each.half() if self.settings.latents == "float16" else each
            extras = {} if vectors is None else {"embedding": vectors[place].clone()}
            if self.settings.moments:
                mean, logvar = (part.contiguous() for part in stored.values.chunk(2, 1))
                stored, extras = replace(stored, values=mean), extras | {LOGVAR: logvar}
            extras |= {} if states is None else {FEATURES: states[place].half().clone()}
            made[number].append(
                TokenSample(key=key, tokens=stored, label=raw.label, captions=raw.captions, extras=extras)
            )
        return made

    def _features(self, sources: list[Any], batch: list[Opened]) -> list[torch.Tensor] | None:
        """The encoder's states of pictures. Raises ``ValueError`` for anything else."""
        settings = self.settings
        if settings.features is None:
            return None
        if other := [item.modality for item in batch if item.modality != "image"]:
            raise ValueError(f"--features are those of pictures, and this is {other[0]}")
        kind = settings.kind or self.model.config.kinds[0]
        with torch.no_grad():
            options = EncodeOptions(kind, token_budget=settings.token_budget)
            return features(self.model, sources, settings.features, options)


def _count(item: Opened) -> int:
    return item.tokens


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
