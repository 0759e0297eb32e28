"""Zero-shot classification and retrieval over a data set: embeddings first, then the numbers."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..language.index import Entry, Index
from ..language.zero_shot import TEMPLATES, label_embeddings
from ..metrics.classification import topk_accuracy
from ..metrics.retrieval import retrieval_recall
from ..pipeline.bulk import in_batches
from .datasets import Item
from .provenance import code_version, environment, stamps_beside

if TYPE_CHECKING:
    from ..language.towers import TextTower
    from ..pipeline.atoken import AToken

PROTOCOLS = {"zero-shot": "classes", "retrieval": "coco"}
"""Name of a protocol, and the layout that it reads by default."""
FORMAT = "atoken-understanding"
TOP, RECALL = (1, 5), (1, 5, 10)
SAVE_EVERY = 30.0
"""Seconds between saves of the embeddings of a run."""


def check_items(protocol: str, items: Sequence[Item]) -> None:
    """Raise ``ValueError`` where items lack the classes or captions that the protocol needs."""
    if protocol == "zero-shot":
        if any(item.label is None or item.class_name is None for item in items):
            raise ValueError("zero-shot needs classes: give --layout classes, imagenet or assets")
        if len({item.label for item in items}) == 1:
            raise ValueError(f"zero-shot needs classes to choose from, and there is only {items[0].class_name!r}")
    elif not any(item.captions for item in items):
        raise ValueError("retrieval needs captions: give --layout coco, msrvtt or msvd")
    elif bare := [item.name for item in items if not item.captions or not all(map(str.strip, item.captions))]:
        raise ValueError(f"retrieval needs captions of every item: {bare[0]} has none, or an empty one")


def embed_items(
    model: AToken,
    items: Sequence[Item],
    batch: int,
    kept: Path | None,
    advance: Callable[[int], None] = lambda done: None,
) -> tuple[list[Item], Tensor, list[dict[str, str]]]:
    """The items that could be read, their unit vectors [S, W], and name and error of the others.

    Vectors are kept in the folder ``kept``, if one is given, every ``SAVE_EVERY`` seconds and at an interruption; those
    of the same model, code and unchanged files are taken from there. Raises ``ValueError`` where none could be read.
    """
    what = [model.weights_hash, model.config.to_dict(), str(model.proj.weight.dtype), code_version()]
    beside = stamps_beside(item.path for item in items)
    weights = hashlib.sha256(json.dumps([what, beside], sort_keys=True).encode()).hexdigest()
    index = Index.load(kept) if kept else None
    known = (
        dict(zip(index.entries, torch.from_numpy(index.vectors), strict=True))
        if index and index.weights == weights
        else {}
    )
    entries: dict[int, Entry] = {}
    errors: dict[int, OSError | ValueError] = {}
    for number, item in enumerate(items):
        try:
            status = item.path.stat()
            entries[number] = Entry(str(item.path.resolve()), status.st_size, status.st_mtime_ns)
        except OSError as error:
            errors[number] = error
    missing = [number for number, entry in entries.items() if entry not in known]

    def embed(numbers: Sequence[int]) -> Tensor:
        return model.embed([items[number].path for number in numbers])

    def save() -> None:
        if kept and known:
            Index(weights, tuple(known), torch.stack(list(known.values())).numpy()).save(kept)

    saved = time.monotonic()
    try:
        for done in in_batches(missing, embed, budget=batch):
            if done.error is None:
                known[entries[done.key]] = done.result.cpu()
            elif isinstance(done.error, ValueError | OSError):
                del entries[done.key]
                errors[done.key] = done.error
            else:
                raise done.error
            if time.monotonic() - saved > SAVE_EVERY:
                save()
                saved = time.monotonic()
            advance(done.key + 1)
    finally:
        save()
    advance(len(items))
    failures = [{"name": items[number].name, "error": str(error)} for number, error in sorted(errors.items())]
    if not entries:
        raise ValueError(f"nothing could be embedded: {failures[0]['name']}: {failures[0]['error']}")
    return [items[n] for n in entries], torch.stack([known[entry] for entry in entries.values()]), failures


def zero_shot(items: Sequence[Item], every: Sequence[Item], vectors: Tensor, tower: TextTower) -> dict[str, float]:
    """Top-1 and top-5 accuracy among the classes of ``every`` item of the set, with the prompt ensemble."""
    names = {item.label: item.class_name for item in every}
    labels = sorted(label for label in names if label is not None)
    classes = label_embeddings(tower, [str(names[label]) for label in labels])
    truth = torch.tensor([labels.index(item.label or 0) for item in items])
    return {f"top-{k}": share for k, share in topk_accuracy(vectors, classes, truth, TOP).items()}


def retrieval(items: Sequence[Item], vectors: Tensor, tower: TextTower) -> dict[str, float]:
    """R@1, R@5 and R@10 from texts to items and back."""
    texts = [caption for item in items for caption in item.captions]
    owner = torch.tensor([index for index, item in enumerate(items) for _ in item.captions])
    recall = retrieval_recall(vectors, tower(texts), owner, RECALL)
    there = {f"from-text R@{k}": share for k, share in recall.from_text.items()}
    return there | {f"to-text R@{k}": share for k, share in recall.to_text.items()}


def measure(
    protocol: str,
    model: AToken,
    tower: TextTower,
    items: Sequence[Item],
    every: Sequence[Item],
    batch: int,
    kept: Path,
    advance: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """One model's numbers, shares in 0 ... 1, with what they were measured by, JSON-ready.

    ``every`` is the whole set that ``items`` are of: its classes are what zero-shot chooses from. Embeddings are kept
    in the folder ``kept``, so that a run that was interrupted continues.
    """
    read, vectors, failures = embed_items(model, items, batch, kept, advance)
    prompts = {"templates": list(TEMPLATES)} if protocol == "zero-shot" else {}
    values = zero_shot(read, every, vectors, tower) if prompts else retrieval(read, vectors, tower)
    count = (
        {"classes": len({item.label for item in every})} if prompts else {"texts": sum(len(i.captions) for i in read)}
    )
    return {
        "format": FORMAT,
        "version": 1,
        "protocol": {"name": protocol, **prompts},
        "data": {"n": len(read), **count},
        "model": {"name": model.config.name, "sha256": model.weights_hash},
        "tower": {"name": tower.name, "sha256": tower.weights_hash},
        "metrics": values,
        "code": code_version(),
        "environment": environment(str(model.device)),
        "failures": failures,
    }
