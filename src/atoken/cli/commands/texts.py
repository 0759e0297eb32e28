"""Commands about words: ``classify``, ``search`` and ``ask``."""

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


@app.command()
def ask(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="FILES... QUESTION", show_default=False, help="Pictures, videos and 3D files; last the question."
        ),
    ],
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", show_default=False, help="Folder of a trained model that answers.")
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(show_default="the shipped model that it names", help="The tokenizer that it was trained with."),
    ] = None,
    language_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR",
            show_default="the one that it names",
            help="The language model that it was trained with.",
        ),
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="A dialogue: FILES alone; each line of standard input is a question.")
    ] = False,
    tokens: Annotated[int, typer.Option("--tokens", metavar="N", help="Most tokens of an answer.")] = 64,
    device: options.Device = None,
) -> None:
    """Answer a question about pictures, videos and 3D, word by word, with a trained language model."""
    from ..ask import Question
    from ..ask import ask as answer

    answer(Question(tuple(words), model, tokenizer, language_model, chat, tokens, device))
