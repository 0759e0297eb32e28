"""Measure what a text-aligned nano understands of objects that it never trained on, beside its teacher and chance.

    python recipes/nano/understanding.py runs/nano-text/model --out eval/understanding.json

The model sees pictures at 128 pixels and furniture as voxels; nothing is trained. Shares in 0 ... 1:

* agreement: how often the class that EfficientNet-Lite2 thinks likeliest is the model's first, or among its first five,
  of ImageNet's 1,000, on crops of photographs of scenes that the alignment leaves out and on held-out cut-outs;
  ``confident`` counts only pictures of which the teacher is more than half sure;
* categories: zero-shot among the categories of the stamps and of the furniture, by their names alone;
* retrieval: the caption of each held-out object among those of its kind, and back.

The teacher's own lines stand on its mean prompt, weighted by its probabilities (ConSE, arXiv 1312.5650); those beside
3D tokens on a picture of the object. ``most frequent`` always says what most of the set is.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import atoken
from atoken.backbones.lite0 import lite2
from atoken.core.files import atomic_write
from atoken.data.crops import SCORES
from atoken.evaluation.datasets import Item, coco_captions, picture_classes, read_layout
from atoken.evaluation.provenance import code_version
from atoken.evaluation.understand import TOP, embed_items, retrieval, zero_shot
from atoken.language.aligned import tower_of
from atoken.language.zero_shot import label_embeddings
from atoken.media.image.files import read_image
from atoken.media.pixels import from_uint8
from atoken.metrics.classification import topk_accuracy
from atoken.train.teachers import ClassTeacher

KINDS = ("stamps", "emoji", "furniture")
BATCH = 32
SURE = 0.5


def agreement(vectors: Tensor, said: Tensor, classes: Tensor) -> dict[str, Any]:
    """How often the class of which ``said`` log-probabilities [S, 1000] are the highest is among the nearest."""
    sure = said.amax(1).exp() > SURE
    parts = {"all": torch.ones_like(sure), "confident": sure}
    return {
        name: {"n": int(part.sum())}
        | {f"top-{k}": v for k, v in topk_accuracy(vectors[part], classes, said[part].argmax(1), TOP).items()}
        for name, part in parts.items()
        if part.any()
    } | {"chance": {f"top-{k}": k / len(classes) for k in TOP}}


def teacher_says(teacher: ClassTeacher, pictures: Sequence[Path]) -> Tensor:
    """Log-probabilities of pictures, [S, 1000]."""
    stacks = [
        torch.from_numpy(np.stack([read_image(path) for path in pictures[start : start + BATCH]]))
        for start in range(0, len(pictures), BATCH)
    ]
    return torch.cat([teacher.scores(from_uint8(stack.permute(0, 3, 1, 2))) for stack in stacks])


def in_text_space(said: Tensor, classes: Tensor) -> Tensor:
    """The teacher's view as a unit vector [S, D] of the text tower's space."""
    return F.normalize(said.exp() @ classes, dim=-1)


def chance_of_retrieval(count: int) -> dict[str, float]:
    """Share of right answers among k drawn ones."""
    return {f"R@{k}": min(1.0, k / count) for k in (1, 5, 10)}


def categories(items: list[Item], by: dict[str, Tensor], tower: Any) -> dict[str, Any]:
    """Accuracy among the items' classes, by whose vectors."""
    counts = Counter(item.label for item in items)
    frequent = {"top-1": max(counts.values()) / len(items)}
    chance = {f"top-{k}": min(1.0, k / len(counts)) for k in TOP}
    found = {name: zero_shot(items, items, vectors, tower) for name, vectors in by.items()}
    return {"n": len(items), "categories": len(counts), **found, "chance": chance, "most frequent": frequent}


def captions(items: list[Item], by: dict[str, Tensor], tower: Any) -> dict[str, Any]:
    """Retrieval in both directions, by whose vectors."""
    found = {name: retrieval(items, vectors, tower) for name, vectors in by.items()}
    return {"n": len(items), **found, "chance": chance_of_retrieval(len(items))}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model directory, aligned with all-minilm")
    parser.add_argument("--captions", type=Path, default=Path("data/captions"), help="what captions.py made")
    parser.add_argument("--taught", type=Path, default=Path("data/taught"), help="what teacher.py made")
    parser.add_argument("--furniture", type=Path, default=None, help="what furniture.py made, for 3D tokens")
    parser.add_argument("--out", type=Path, default=Path("eval/understanding.json"))
    arguments = parser.parse_args()
    model = atoken.load(arguments.model, device="cpu")
    tower = tower_of(model)
    classes = label_embeddings(tower, (arguments.captions / "imagenet.txt").read_text().splitlines())
    teacher = ClassTeacher(lite2(), classes)

    taught = arguments.taught / "test"
    photographs = np.fromfile(taught / "train.bin", np.uint8).reshape(-1, 128, 128, 3)
    said = torch.from_numpy(np.load(taught / SCORES).astype(np.float32))
    report: dict[str, Any] = {"agreement": {"photographs": agreement(model.embed(list(photographs)), said, classes)}}
    report |= {"categories": {}, "retrieval": {}}

    views: dict[str, Tensor] = {}
    for kind in KINDS:
        folder = arguments.captions / "test" / kind
        labels = {item.name: item for item in picture_classes(folder)}
        items = coco_captions(folder)
        items = [Item(i.name, i.path, labels[i.name].label, labels[i.name].class_name, i.captions) for i in items]
        _, vectors, _ = embed_items(model, items, BATCH, None)
        said = teacher_says(teacher, [item.path for item in items])
        by = {"model": vectors, "teacher": in_text_space(said, classes)}
        views |= {item.path.stem: vector for item, vector in zip(items, by["teacher"], strict=True)}
        report["agreement"][kind] = agreement(vectors, said, classes)
        report["categories"][kind] = categories(items, by, tower)
        report["retrieval"][kind] = captions(items, by, tower)

    if arguments.furniture is not None:
        items, vectors, _ = embed_items(model, read_layout(arguments.furniture, "furniture", None), BATCH, None)
        seen = [i for i, item in enumerate(items) if item.name in views]
        items, vectors = [items[i] for i in seen], vectors[seen]
        by = {"model": vectors, "teacher": torch.stack([views[item.name] for item in items])}
        report["categories"]["furniture 3D"] = categories(items, by, tower)
        report["retrieval"]["furniture 3D"] = captions(items, by, tower)

    report |= {"model": {"name": model.config.name, "sha256": model.weights_hash}, "code": code_version()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(arguments.out) as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")
    show(report)


def show(report: dict[str, Any]) -> None:
    """One line a number."""
    for part in ("agreement", "categories", "retrieval"):
        for kind, lines in report[part].items():
            for name, values in lines.items():
                if isinstance(values, dict):
                    shares = "  ".join(
                        f"{k} {v:.1%}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items()
                    )
                    print(f"{part:11} {kind:13} {name:13} {shares}")


if __name__ == "__main__":
    main()
