"""One pass over a data set: every item through every method, and every judge over what comes out."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.device import enough_memory
from ..core.prefetch import prefetch_map
from ..media.image.files import read_image
from .assets import HeldOut, pixels_of, read_held_out
from .datasets import Item
from .judges import Judge, to_frames
from .methods import Method, Outcome, at_once
from .progress import ORIGINALS, Progress
from .protocols import Protocol
from .provenance import code_version, stamps, stamps_beside
from .videos import read_video_frames

SAVE_EVERY = 30.0
"""Seconds between two states on disk."""
READERS = 2
"""Threads that read ahead."""


@dataclass(frozen=True)
class Plan:
    """All that decides the numbers of a run."""

    protocol: Protocol
    metrics: tuple[str, ...]
    items: Sequence[Item]
    data: str
    """Name of the data set, for reports."""
    methods: Sequence[Method]
    """The first one is what the report sorts by."""
    judges: Sequence[Judge]
    batch: int
    """Pictures of one size that are computed at once: so many of 256 x 256 pixels, or fewer larger ones."""
    device: str

    def describe(self) -> dict[str, Any]:
        """The plan as JSON-ready values."""
        networks = {
            name: judge.network(name)
            for judge in self.judges
            for name in (*judge.frame_metrics, judge.frechet_metric)
            if name
        }
        return {
            "protocol": self.protocol.describe(),
            "metrics": list(self.metrics),
            "methods": {method.name: method.describe() for method in self.methods},
            "networks": networks,
            "code": code_version(),
        }

    def fingerprint(self) -> str:
        """SHA-256 of the description, of the order of the methods (the first says how many bytes a codec may take) and
        of the items: their names and places, and size and time of change of their files."""
        items = [[item.name, str(item.path.resolve()), stamps(item.path)] for item in self.items]
        order = [method.name for method in self.methods]
        values = [self.describe(), order, items, stamps_beside(item.path for item in self.items)]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def read_clip(item: Item, protocol: Protocol) -> np.ndarray | HeldOut:
    """The item in the protocol's geometry, uint8 [F, H, W, 3], or an asset with its held-out views.

    Raises ``ValueError`` or ``OSError``.
    """
    if protocol.modality == "3d":
        return read_held_out(item.path)
    frames = read_image(item.path)[None] if protocol.modality == "image" else read_video_frames(item.path)
    return protocol.apply(frames)


def run(plan: Plan, folder: Path, advance: Callable[[int], None] = lambda done: None) -> Progress:
    """Measure what is not measured yet, and return the counts; an exception (Ctrl-C too) leaves a state to go on from.

    ``advance`` is called with the number of finished items. Items that cannot be read are recorded as failed. Raises
    ``ValueError`` where memory does not suffice.
    """
    progress = Progress(folder, plan.fingerprint())
    advance(progress.done)
    saved = time.monotonic()
    try:
        for batch in _batches(plan, progress):
            others = f" and {len(batch) - 1} more at once: a smaller --batch goes on" if batch[1:] else ""
            with enough_memory(f"there is not enough memory for {batch[0][0].name}{others}"):
                _measure(plan, progress, batch)
            advance(progress.done)
            if time.monotonic() - saved > SAVE_EVERY:
                progress.save()
                saved = time.monotonic()
    finally:
        progress.close()
    return progress


Read = tuple[Item, "np.ndarray | HeldOut | Exception"]


def _batches(plan: Plan, progress: Progress) -> Iterator[list[Read]]:
    """What is left to do, read ahead, neighbours of one shape together."""

    def shape(read: Read) -> Any:
        return read[1].shape if isinstance(read[1], np.ndarray) else id(read[1])

    for key, group in groupby(_read_ahead(plan, progress), shape):
        count = at_once(plan.batch, key) if plan.protocol.modality == "image" and isinstance(key, tuple) else 1
        while batch := list(islice(group, count)):
            yield batch


def _read_ahead(plan: Plan, progress: Progress) -> Iterator[Read]:
    least = max((judge.least for judge in plan.judges), default=1)

    def read(item: Item) -> Read:
        try:
            clip = read_clip(item, plan.protocol)
            height, width = pixels_of(clip).shape[1:3]
            if min(height, width) < least:
                raise ValueError(f"{width} x {height} is too small to measure: {least} pixels a side are the least")
            return item, clip
        except (ValueError, OSError) as error:
            return item, error

    pictures = plan.protocol.modality == "image"
    window = 2 * plan.batch if pictures and plan.protocol.crop else READERS if pictures else 1
    with closing(prefetch_map(read, plan.items[progress.done :], READERS, window)) as results:
        while True:
            with _clock(progress, "reading"):
                result = next(results, None)
            if result is None:
                return
            yield result


def _measure(plan: Plan, progress: Progress, batch: list[Read]) -> None:
    """All methods and judges on items of one shape; the counts change only when everything has worked.

    An item that a method cannot do (WebP ends at 16383 pixels) is recorded as failed, for all of them.
    """
    clips = [clip for _, clip in batch if not isinstance(clip, Exception)]
    if not clips:
        with progress.together():
            for item, error in batch:
                progress.record({"name": item.name, "error": str(error)})
        return
    outcomes = {}
    for method in plan.methods:
        try:
            with _clock(progress, f"method: {method.name}"):
                outcomes[method.name] = method.reconstruct(clips)
        except (ValueError, OSError) as error:
            if len(batch) == 1:
                with progress.together():
                    progress.record({"name": batch[0][0].name, "error": f"{method.name}: {error}"})
                return
            for single in batch:
                _measure(plan, progress, [single])
            return
    originals = [pixels_of(clip) for clip in clips]
    seen = {ORIGINALS: originals, **{name: [o.frames for o in results] for name, results in outcomes.items()}}
    scores: dict[str, dict[str, list[float]]] = {method.name: {} for method in plan.methods}
    vectors: list[tuple[str, str, torch.Tensor]] = []
    for judge in plan.judges:
        with _clock(progress, f"metric: {', '.join((*judge.frame_metrics, judge.frechet_metric or ''))}".rstrip(", ")):
            _judge(plan, judge, seen, scores, vectors)
    with progress.together():
        for metric, name, features in vectors:
            progress.vectors(metric, name, features)
        for method in plan.methods:
            for outcome in outcomes[method.name]:
                if outcome.codes is not None:
                    progress.codes(method.name, outcome.codes, method.codebooks)
        for index, (item, _) in enumerate(batch):
            clip = originals[index]
            progress.digest = (progress.digest + int(hashlib.sha256(clip.tobytes()).hexdigest(), 16)) % 2**256
            rows = {
                method.name: {
                    **{metric: values[index] for metric, values in scores[method.name].items()},
                    **_size(outcomes[method.name][index]),
                }
                for method in plan.methods
            }
            progress.record({"name": item.name, "shape": clip.shape[:3], "methods": rows})


def _size(outcome: Outcome) -> dict[str, Any]:
    units = outcome.units or outcome.frames.size // 3
    return {"bpp": outcome.bits / units, **({"over": True} if outcome.over else {})}


@torch.no_grad()
def _judge(
    plan: Plan,
    judge: Judge,
    seen: dict[str, list[np.ndarray]],
    scores: dict[str, dict[str, list[float]]],
    vectors: list[tuple[str, str, torch.Tensor]],
) -> None:
    """Add one judge's numbers: those of a clip are the means over its frames, looked at a few or a clip at a time."""
    count = len(seen[ORIGINALS][0])
    step = plan.protocol.clip if judge.whole_clips else at_once(plan.batch, seen[ORIGINALS][0].shape)
    totals: dict[tuple[str, str], torch.Tensor] = {}
    for start in range(0, count, step):
        originals = None
        for name, clips in seen.items():
            frames = np.concatenate([clip[start : start + step] for clip in clips])
            looked = judge.look(to_frames(frames, plan.device))
            features = judge.vectors(looked) if judge.frechet_metric else None
            if judge.frechet_metric and features is not None:
                vectors.append((judge.frechet_metric, name, features.cpu()))
            if originals is None:
                originals = looked
                continue
            for metric, values in judge.compare(originals, looked).items():
                if not bool(torch.isfinite(values).all()):
                    raise ValueError(f"{metric} of {name} is not a number: the weights of its network are damaged")
                sums = values.double().cpu().view(len(clips), -1).sum(1)
                totals[name, metric] = totals.get((name, metric), torch.zeros(())) + sums
    for (name, metric), total in totals.items():
        scores[name][metric] = (total / count).tolist()


@contextmanager
def _clock(progress: Progress, part: str) -> Iterator[None]:
    """Add the seconds of the block, one that fails too. Blocks do not lie in one another, so no second counts twice."""
    start = time.perf_counter()
    try:
        yield
    finally:
        progress.seconds[part] += time.perf_counter() - start
