"""Words in the demo: the likeliest labels of what the page shows, and a search over it. Needs the extra ``text``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from importlib.util import find_spec

import numpy as np
from torch import Tensor

from ..core.text import escaped
from ..gaussians.viewer import on_grey
from ..language.aligned import tower_of
from ..language.zero_shot import TEMPLATES, label_embeddings, probabilities
from ..media.image.files import read_image
from ..media.video.source import open_video
from ..media.views.packed import PackedAsset
from ..pipeline.atoken import AToken
from . import page
from .assets import SOLIDS, solid
from .images import PHOTOGRAPHS

LABELS = ("person", "cup of coffee", "cat", "rocket", "chair", "duck")
"""One for each of ``things`` but the clip, which shows several of them."""
QUERIES = ("a wooden chair", "a woman", "a cup of coffee", "a yellow toy")
BEST = 3
"""Labels shown of a thing, and things of a search."""


@dataclass(frozen=True)
class Thing:
    """Something that the page shows: its name, a picture of it, uint8 HWC, and its unit vector [D]."""

    name: str
    picture: np.ndarray
    vector: Tensor


def section(model: AToken) -> page.Section:
    """Labels and searches by ``model``, which is aligned with a text tower."""
    tower, shown = tower_of(model), things(model)
    labels = label_embeddings(tower, LABELS, TEMPLATES)
    body = f"<h3>The likeliest of the labels {', '.join(LABELS[:-1])} and {LABELS[-1]}</h3>"
    body += _row([_figure(thing, likeliest(thing, labels, model.config.logit_scale)) for thing in shown])
    for query, vector in zip(QUERIES, tower(QUERIES), strict=True):
        body += f"<h3>Nearest to “{query}”</h3>"
        body += _row([_figure(thing, [f"cosine {score:.2f}"]) for thing, score in nearest(shown, vector)])
    return page.Section(
        "Words",
        "The pass that makes the tokens also gives one vector for each picture, video and asset, in the space of a "
        "text tower: a label is the nearest text, and a search finds the nearest thing. A model that has learnt this "
        "from few pictures, as nano has, knows colour, outline and material rather than kinds of things, and some of "
        "what it says here is wrong.",
        body,
    )


def things(model: AToken) -> list[Thing]:
    """The photographs, the clip (with PyAV) and the solids (with a Gaussian head of their resolution) of the page."""
    pictures: dict[str, np.ndarray] = {}
    inputs: list[np.ndarray | PackedAsset | str] = []
    for name in PHOTOGRAPHS:
        with as_file(files("atoken").joinpath(f"assets/photos/{name}.jpg")) as path:
            pictures[name] = read_image(path)
        inputs.append(pictures[name])
    head = model.config.gaussians
    for asset in map(solid, SOLIDS):
        if head is not None and head.resolution in asset.voxels:
            pictures[asset.name] = on_grey(asset.held_out[:1])[0]
            inputs.append(asset)
    vectors = list(model.embed(inputs))
    if find_spec("av"):
        with as_file(files("atoken").joinpath("assets/clips/made.mp4")) as path:
            pictures["clip"] = next(iter(open_video(path))).pixels
            vectors.append(model.embed([path])[0])
    return [Thing(*facts, vector) for facts, vector in zip(pictures.items(), vectors, strict=True)]


def likeliest(thing: Thing, labels: Tensor, log_scale: float) -> list[str]:
    """The ``BEST`` of ``LABELS``, whose unit vectors are ``labels`` [L, D], with their probabilities."""
    best = probabilities(thing.vector[None], labels, log_scale)[0].topk(BEST)
    return [f"{LABELS[i]} {share:.0%}" for i, share in zip(best.indices.tolist(), best.values.tolist(), strict=True)]


def nearest(shown: Sequence[Thing], query: Tensor) -> list[tuple[Thing, float]]:
    """The ``BEST`` of ``shown`` to a unit vector [D], with their cosines, nearest first."""
    scores = [(thing, float(thing.vector @ query)) for thing in shown]
    return sorted(scores, key=lambda pair: -pair[1])[:BEST]


def _figure(thing: Thing, lines: Sequence[str]) -> str:
    picture = page.embed(thing.picture, quality=80)
    words = "<br>".join(map(escaped, lines))
    return f"<figure><img src='{picture}' alt='{escaped(thing.name)}'><figcaption><b>{words}</b></figcaption></figure>"


def _row(figures: Sequence[str]) -> str:
    return f"<div class='things'>{''.join(figures)}</div>"
