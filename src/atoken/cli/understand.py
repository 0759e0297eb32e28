"""The commands ``classify`` and ``search``."""

from __future__ import annotations

import base64
import html
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import typer
from torch import Tensor

from ..codec.assets import read_any
from ..files import atomic_write
from ..media.image import IMAGE_SUFFIXES, read_image
from ..media.kinds import ASSET_SUFFIXES, VIDEO_SUFFIXES, modality_of
from ..media.video import open_video
from ..understanding.aligned import tower_of
from ..understanding.index import Index, update
from ..understanding.zero_shot import TEMPLATES, label_embeddings, probabilities
from ..weights.load import load
from . import options, paths
from .report import say, sentence

if TYPE_CHECKING:
    from ..model.tokenizer import AToken

INDEX_FOLDER = ".atoken-index"
CHUNK = 32
THUMBNAIL = 160


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
    model = load(model_name, device=device)
    texts = label_embeddings(tower_of(model), names, TEMPLATES)
    failed = list(problems)
    for source in sources:
        read, vectors = _embed(model, [source.path], failed)
        if read:
            chances = probabilities(vectors, texts, model.config.logit_scale)[0]
            best = chances.topk(min(top, len(names)))
            found = [(names[i], chance) for i, chance in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
            typer.echo(_line(str(source.path), found, as_json))
    _conclude(failed)


def _line(path: str, found: list[tuple[str, float]], as_json: bool) -> str:
    if as_json:
        return json.dumps({"path": path, "labels": [{"label": a, "probability": round(b, 6)} for a, b in found]})
    return f"{path}  " + "  ".join(f"{label} {share:.1%}" for label, share in found)


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
    model = load(request.model, device=request.device)
    like = Path(request.query)
    query = model.embed([like])[0] if _is_wanted(like) and like.is_file() else tower_of(model)([request.query])[0]
    folder = request.index or root / INDEX_FOLDER
    failed: list[str] = []
    files = [source.path for source in sources]
    known = Index.load(folder)
    index = update(known, root, files, model.weights_hash, lambda new: _embed(model, new, failed))
    if known is None or (known.weights, known.entries) != (index.weights, index.entries):
        index.save(folder)
    found = index.search(query, request.top)
    for entry, score in found:
        typer.echo(f"{score:.3f}  {root / entry.path}")
    if request.page:
        results = [(root / entry.path, score) for entry, score in found]
        with atomic_write(request.page) as temporary:
            temporary.write_text(_page(request.query, results, request.page.parent), encoding="utf-8")
    _conclude(failed)


def _is_wanted(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES | ASSET_SUFFIXES


def _embed(model: AToken, files: list[Path], failed: list[str]) -> tuple[list[Path], Tensor]:
    """Vectors of those files that can be read, in few files at a time; a sentence for each of the others."""
    read: list[Path] = []
    vectors: list[Tensor] = []
    for start in range(0, len(files), CHUNK):
        chunk = files[start : start + CHUNK]
        try:
            vectors.append(model.embed(chunk))
            read += chunk
        except (ValueError, OSError):  # which one it was shows one by one
            for file in chunk:
                try:
                    vectors.append(model.embed([file]))
                    read.append(file)
                except (ValueError, OSError) as error:
                    failed.append(f"{file}: {sentence(error)}")
    return read, torch.cat(vectors) if vectors else torch.empty(0, 0)


def _conclude(failed: list[str]) -> None:
    for problem in failed:
        say(f"error: {problem}")
    if failed:
        raise typer.Exit(2)


def _page(query: str, results: list[tuple[Path, float]], folder: Path) -> str:
    """One HTML file with the thumbnails in it."""
    cards = "\n".join(_card(path, score, folder) for path, score in results)
    title = html.escape(query)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #222; background: #fafafa }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax({THUMBNAIL}px, 1fr)); gap: 1rem }}
a {{ color: inherit; text-decoration: none; overflow-wrap: anywhere }}
.thumb {{ width: {THUMBNAIL}px; height: {THUMBNAIL}px; object-fit: contain; background: #eee; display: block }}
</style>
<h1>{title}</h1>
<main>
{cards}
</main></html>
"""


def _card(path: Path, score: float, folder: Path) -> str:
    from PIL import Image

    link = html.escape(Path(os.path.relpath(path, folder or ".")).as_posix(), quote=True)
    image = Image.fromarray(_picture_of(path))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    picture = f'<img class="thumb" alt="" src="data:image/jpeg;base64,{data}">'
    return f'<a href="{link}">{picture}{html.escape(path.name)}<br>{score:.3f}</a>'


def _picture_of(path: Path) -> np.ndarray:
    """What stands for a file: the picture, a video's first frame, the first view of an asset."""
    modality = modality_of(path)
    if modality == "image":
        return read_image(path)
    if modality == "video":
        return next(iter(open_video(path))).pixels
    return read_any(path).colour[0]
