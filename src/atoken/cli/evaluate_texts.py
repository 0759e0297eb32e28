"""``atoken eval --protocol zero-shot`` and ``retrieval``: models that are aligned with texts."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import typer

from ..core.device import find_device
from ..core.text import clean
from ..evaluation.datasets import read_layout
from ..evaluation.progress import RESULTS, STATE, make_room
from ..evaluation.results import write_results
from ..evaluation.understand import PROTOCOLS, check_items, measure
from ..language.aligned import tower_of
from ..weights.load import load
from . import options, paths
from .commands.evaluation import RATES, EvalSettings
from .report import counting, say, show_table

EMBEDDINGS = "embeddings"
"""Folder below --out that keeps what was embedded, for a run that goes on."""


def evaluate_texts(models: Sequence[str], settings: EvalSettings) -> None:
    """Measure each model, print a table and write the results. Raises ``typer.Exit(2)`` where items were left out."""
    given: dict[str, object] = {
        "--metrics": settings.metrics,
        "--against": settings.against,
        "--linear": settings.linear,
        "--kind": settings.kind,
        "--rates": None if settings.rates == RATES else settings.rates,
        "--reference": settings.reference or None,
        **{f"--{name}": file for name, file in vars(settings.files).items()},
    }
    if unfit := [name for name, value in given.items() if value is not None]:
        raise ValueError(f"{unfit[0]} is for the reconstruction of pixels, and {settings.protocol} is not")
    every = read_layout(settings.data, settings.layout or PROTOCOLS[settings.protocol], None)
    items = every[: settings.limit]
    check_items(settings.protocol, every)
    device = str(find_device(settings.device, "--device"))
    loaded = [load(name, device=device, dtype=options.parse_dtype(settings.dtype)) for name in models]
    towers = [tower_of(model) for model in loaded]
    paths.check_folder(settings.out)
    results = settings.out / RESULTS
    finished = results.exists()
    what = [
        *(settings.protocol, settings.dtype, settings.limit, str(settings.data.resolve())),
        *([model.weights_hash, model.config.to_dict()] for model in loaded),
        [tower.weights_hash for tower in towers],
        [[item.name, item.label, item.class_name, item.captions] for item in every],
    ]
    fingerprint = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    if settings.overwrite:
        make_room(settings.out, None)
    elif (settings.out / STATE).exists() or (finished and read_fingerprint(results) != fingerprint):
        raise ValueError(f"what {settings.out} holds is of another run: give another --out, or --overwrite")
    runs = []
    for model, tower in zip(loaded, towers, strict=True):
        kept = settings.out / EMBEDDINGS / model.weights_hash[:12]
        if settings.overwrite and finished:
            shutil.rmtree(kept, ignore_errors=True)
        with counting(len(items), "items") as advance:
            runs.append(measure(settings.protocol, model, tower, items, every, settings.batch, kept, advance))
    for run in runs:
        run["data"]["set"] = settings.data.resolve().name
    write_results({"protocol": settings.protocol, "fingerprint": fingerprint, "models": runs}, results)
    counts = ("n", "classes" if settings.protocol == "zero-shot" else "texts")
    header = ["model", *counts, *(f"{name} %" for name in runs[0]["metrics"])]
    names = [Path(name).absolute().name for name in models]
    rows = [
        [name, *(run["data"][count] for count in counts), *(f"{100 * v:.1f}" for v in run["metrics"].values())]
        for name, run in zip(names, runs, strict=True)
    ]
    show_table(header, rows)
    typer.echo(clean(results))
    failures = [failure for run in runs for failure in run["failures"]]
    for failure in failures:
        say(f"error: {failure['name']}: {failure['error']}")
    if failures:
        raise typer.Exit(2)


def read_fingerprint(results: Path) -> str | None:
    """Which run a results.json of this module is of; None for any other file."""
    try:
        fingerprint = json.loads(results.read_text("utf-8"))["fingerprint"]
    except (ValueError, KeyError, TypeError):
        return None
    return fingerprint if isinstance(fingerprint, str) else None
