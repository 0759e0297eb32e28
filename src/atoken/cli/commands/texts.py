"""Commands about words: ``classify`` and ``search``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import options
from ..app import app


@app.command()
def classify(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUTS...", show_default=False, help="Files, folders and quoted patterns."),
    ],
    labels: Annotated[str, typer.Option(metavar="A,B,...", show_default=False, help="Labels to choose from.")],
    model: options.Model = "nano",
    device: options.Device = None,
    top: Annotated[int, typer.Option(metavar="N", help="Labels shown for each input.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Say which of some labels fit pictures, videos or 3D assets best."""
    from ..zero_shot import classify as run_classify

    run_classify(inputs, labels, model, device, top, as_json)


@app.command()
def search(
    folder: Annotated[Path, typer.Argument(metavar="DIR", show_default=False, help="Folder to search, to the bottom.")],
    query: Annotated[
        str, typer.Argument(metavar="TEXT", show_default=False, help="What to look for; or a file, to find its like.")
    ],
    model: options.Model = "nano",
    device: options.Device = None,
    top: Annotated[int, typer.Option(metavar="N", help="Results shown.")] = 10,
    index: Annotated[
        Path | None, typer.Option(metavar="DIR", show_default="DIR/.atoken-index", help="Where the index is kept.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", show_default=False, help="Write a page with thumbnails.")
    ] = None,
) -> None:
    """Find what fits a text, or a file, in a folder; the index on disk makes the next search quick."""
    from ..text_search import Search
    from ..text_search import search as run_search

    run_search(Search(folder, query, model, device, top, index, page))
