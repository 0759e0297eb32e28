"""The command ``classify``."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import typer

from ..core.text import clean
from ..language.aligned import tower_of
from ..language.chance import WORDS, fits
from ..language.lazy import LazyModel
from ..language.zero_shot import TEMPLATES, label_embeddings, probabilities
from . import options, paths
from .report import Report
from .sources import is_source, owned_files
from .text_search import WHAT, embed, say_what_it_knows


def classify(inputs: list[str], labels: str, model_name: str, device: str | None, top: int, as_json: bool) -> None:
    """Print the likeliest labels of each input."""
    options.check_positive("--top", top)
    options.check_device(device)
    names = [label.strip() for label in labels.split(",") if label.strip()]
    if len(names) < 2:
        raise ValueError(f"--labels is {labels!r}: give two or more, such as 'cat, dog, chair'")
    sources, problems = paths.expand(inputs, is_source, WHAT, belonging=owned_files)
    if not sources:
        raise ValueError(problems[0])
    model = LazyModel(model_name, device)
    tower = tower_of(model)
    texts, words = label_embeddings(tower, names, TEMPLATES), tower(WORDS)
    say_what_it_knows(model)
    report = Report(failures=problems)
    for source in sources:
        read, vectors = embed(model, [source.path], report)
        if read:
            vector = torch.from_numpy(vectors[0])
            chances = probabilities(vector[None], texts, model.config.logit_scale)[0]
            best = chances.topk(min(top, len(names)))
            found = [(names[i], chance) for i, chance in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
            fit = fits(float((texts @ vector).max()), (words @ vector).numpy(), len(names))
            typer.echo(_line(source.path, found, fit, as_json))
    report.conclude()


def _line(path: Path, found: list[tuple[str, float]], fit: bool, as_json: bool) -> str:
    if as_json:
        labels = [{"label": label, "probability": round(share, 6)} for label, share in found]
        return json.dumps({"path": str(path), "labels": labels, "fits": fit})
    line = "  ".join([str(path), *(f"{label} {share:.1%}" for label, share in found)])
    return clean(line if fit else f"{line}  (none fits better than everyday words do)")
