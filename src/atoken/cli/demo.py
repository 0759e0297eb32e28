"""``atoken demo``: the photographs there and back, a table, and the page."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import typer

from ..demo import assets, images, videos
from ..demo.page import write_page
from ..weights.load import load
from . import options, paths
from .report import clean, show_table

PAGE, OVERVIEW, CLIP = "index.html", "overview.jpg", "clip.mp4"


def write_demo(out: Path, model: str, device: str | None) -> None:
    """Write the page, the overview and the token files to ``out``. Raises ``ValueError`` or ``OSError``."""
    options.check_device(device)
    paths.check_folder(out)
    tokenizer = load(model, device=device)
    photographs = images.reconstruct(tokenizer, out)
    images.write_overview(photographs, out / OVERVIEW)
    name, weights = tokenizer.config.name, tokenizer.weights_hash[:12]
    footer = (
        f"Made by atoken demo with the model {name} (weights {weights}). "
        "The photographs are in the public domain or under CC0 1.0."
    )
    sections = [images.section(photographs), assets.section(tokenizer)]
    if find_spec("av") and videos.learned_motion(tokenizer):
        sections.insert(1, videos.section(tokenizer, out / CLIP))
    write_page(out / PAGE, sections, footer)
    show_table(images.HEADER, [photograph.row for photograph in photographs], words=("pixels",))
    typer.echo(clean(f"open {out / PAGE} to see them"))
