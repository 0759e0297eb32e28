"""The commands ``classify`` and ``search``."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import typer
from torch import Tensor

from ..core.errors import ReadError
from ..core.files import atomic_write
from ..core.text import clean, shortened
from ..language.aligned import tower_of
from ..language.chance import WORDS, fits
from ..language.index import Index, update
from ..language.lazy import LazyModel
from ..language.zero_shot import TEMPLATES, label_embeddings, probabilities
from ..media.image.files import IMAGE_SUFFIXES
from ..media.kinds import ASSET_SUFFIXES, VIDEO_SUFFIXES
from . import options, paths
from .report import Report, say
from .search_page import search_page

INDEX_FOLDER = ".atoken-index"
CHUNK = 32


def classify(inputs: list[str], labels: str, model_name: str, device: str | None, top: int, as_json: bool) -> None:
    """Print the likeliest labels of each input."""
    options.check_positive("--top", top)
    options.check_device(device)
    names = [label.strip() for label in labels.split(",") if label.strip()]
    if len(names) < 2:
        raise ValueError(f"--labels is {labels!r}: give two or more, such as 'cat, dog, chair'")
    sources, problems = paths.expand(inputs, _is_wanted, "picture, video or 3D asset")
    if not sources:
        raise ValueError(problems[0])
    model = LazyModel(model_name, device)
    tower = tower_of(model)
    texts, words = label_embeddings(tower, names, TEMPLATES), tower(WORDS)
    _say_what_it_knows(model)
    report = Report(failures=problems)
    for source in sources:
        read, vectors = _embed(model, [source.path], report)
        if read:
            chances = probabilities(vectors, texts, model.config.logit_scale)[0]
            best = chances.topk(min(top, len(names)))
            found = [(names[i], chance) for i, chance in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
            fit = fits(float((texts @ vectors[0]).max()), words @ vectors[0], len(names))
            typer.echo(_line(source.path, found, fit, as_json))
    report.conclude()


def _line(path: Path, found: list[tuple[str, float]], fit: bool, as_json: bool) -> str:
    if as_json:
        labels = [{"label": label, "probability": round(share, 6)} for label, share in found]
        return json.dumps({"path": str(path), "labels": labels, "fits": fit})
    line = "  ".join([str(path), *(f"{label} {share:.1%}" for label, share in found)])
    return clean(line if fit else f"{line}  (none fits better than everyday words do)")


def _say_what_it_knows(model: LazyModel) -> None:
    if model.is_shipped:
        say(f"note: {model.source} knows colour, outline and material, and hardly any kinds of things")


@dataclass(frozen=True)
class Search:
    """What ``atoken search`` was asked."""

    folder: Path
    query: str
    """Words, or the path of a file to find others like it."""
    model: str
    device: str | None
    top: int
    index: Path | None
    page: Path | None


def search(request: Search) -> None:
    """Bring the index of the folder up to date, print what is nearest to the query, and write the page."""
    options.check_positive("--top", request.top)
    options.check_device(request.device)
    root = request.folder
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder")
    if not request.query.strip():
        raise ValueError("the query is empty: say what to look for, such as 'a red armchair'")
    sources, problems = paths.expand([str(root)], _is_wanted, "picture, video or 3D asset")
    if not sources:
        raise ValueError(problems[0])
    model = LazyModel(request.model, request.device)
    like = Path(request.query)
    tower = None if _is_wanted(like) and like.is_file() else tower_of(model)
    query = tower([request.query])[0] if tower else model.embed([like])[0]
    folder = request.index or root / INDEX_FOLDER
    report = Report(failures=problems)
    files = [source.path for source in sources]
    known = Index.load(folder)
    if known is None:
        _say_what_it_knows(model)
    elif known.weights == model.identity and known.vectors.shape[1] != len(query):
        raise ReadError(f"{folder} holds vectors of another width than its model has: remove it and search again")
    try:
        index = update(known, root, files, model.identity, lambda new: _embed(model, new, report))
    except ValueError:  # none of them could be embedded
        report.conclude()
        raise
    if tower and not len(index.words):
        index = replace(index, words=(tower(WORDS) @ index.vectors.T).amax(1))
    if index is not known:
        index.save(folder)
    found = index.search(query, request.top)
    for entry, score in found:
        typer.echo(f"{score:.3f}  {clean(root / entry.path)}")
    if tower and not fits(found[0][1], index.words):
        asked = shortened(request.query)
        say(f"note: nothing in {root} fits {asked!r} better than everyday words do: it may not be there")
    if request.page:
        results = [(root / entry.path, score) for entry, score in found]
        with atomic_write(request.page) as temporary:
            temporary.write_text(search_page(request.query, results, root, request.page.parent), encoding="utf-8")
    report.conclude()


def _is_wanted(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES | ASSET_SUFFIXES


def _embed(model: LazyModel, files: list[Path], report: Report) -> tuple[list[Path], Tensor]:
    """Vectors of those files that can be read, in few files at a time; the others are failures of the report."""
    from ..pipeline.bulk import in_batches  # with all media, which a search over a complete index does without

    read: list[Path] = []
    vectors: list[Tensor] = []
    for item in in_batches(files, model.embed, budget=CHUNK):
        with report.isolated(item.key):
            if item.error is not None:
                raise item.error
            read.append(item.key)
            vectors.append(item.result)
    return read, torch.stack(vectors) if vectors else torch.empty(0, 0)
