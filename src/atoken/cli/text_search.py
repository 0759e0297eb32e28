"""The command ``search``. Over a complete index it runs without torch, whose import takes seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import typer

from ..core.errors import ReadError
from ..core.files import atomic_write
from ..core.text import clean, shortened
from ..language.aligned import embedder_of
from ..language.chance import WORDS, fits
from ..language.index import Index, update
from ..language.lazy import LazyModel
from . import options, paths
from .report import Report, say
from .sources import is_source, owned_files

INDEX_FOLDER = ".atoken-index"
CHUNK = 32
WHAT = "picture, video or 3D asset"


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
    sources, problems = paths.expand([str(root)], is_source, WHAT, belonging=owned_files)
    if not sources:
        raise ValueError(problems[0])
    model = LazyModel(request.model, request.device)
    like = Path(request.query)
    words = None if is_source(like) and like.is_file() else embedder_of(model)
    query = words([request.query])[0] if words else model.embed([like])[0].numpy()
    folder = request.index or root / INDEX_FOLDER
    report = Report(failures=problems)
    files = [source.path for source in sources]
    known = Index.load(folder)
    if known is None:
        say_what_it_knows(model)
    elif known.weights == model.identity and known.vectors.shape[1] != len(query):
        raise ReadError(f"{folder} holds vectors of another width than its model has: remove it and search again")
    try:
        index = update(known, root, files, model.identity, lambda new: embed(model, new, report))
    except ValueError:  # none of them could be embedded
        report.conclude()
        raise
    if words and not len(index.words):
        index = replace(index, words=(words(WORDS) @ index.vectors.T).max(1))
    if index is not known:
        index.save(folder)
    found = index.search(query, request.top)
    for entry, score in found:
        typer.echo(f"{score:.3f}  {clean(root / entry.path)}")
    if words and not fits(found[0][1], index.words):
        asked = shortened(request.query)
        say(f"note: nothing in {root} fits {asked!r} better than everyday words do: it may not be there")
    if request.page:
        from .search_page import search_page

        results = [(root / entry.path, score) for entry, score in found]
        with atomic_write(request.page) as temporary:
            temporary.write_text(search_page(request.query, results, root, request.page.parent), encoding="utf-8")
    report.conclude()


def embed(model: LazyModel, files: list[Path], report: Report) -> tuple[list[Path], np.ndarray]:
    """Unit vectors fp32 [n, D] of the files that can be read, few at a time; the others are failures of the report."""
    from ..pipeline.bulk import in_batches  # with all media, which a search over a complete index does without

    read: list[Path] = []
    vectors: list[np.ndarray] = []
    for item in in_batches(files, model.embed, budget=CHUNK):
        with report.isolated(item.key):
            if item.error is not None:
                raise item.error
            read.append(item.key)
            vectors.append(item.result.numpy())
    return read, np.stack(vectors) if vectors else np.empty((0, 0), np.float32)


def say_what_it_knows(model: LazyModel) -> None:
    """That shipped models know little."""
    if model.is_shipped:
        say(f"note: {model.source} knows colour, outline and material, and hardly any kinds of things")
