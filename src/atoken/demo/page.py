"""One self-contained HTML page out of sections: pictures are embedded, nothing is fetched."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..core.files import atomic_write
from ..core.text import escaped


@dataclass(frozen=True)
class Section:
    """A part of the page: ``title`` and ``text`` are plain text, ``body`` is HTML made by the functions below."""

    title: str
    text: str
    body: str


def write_page(path: Path, sections: Sequence[Section], footer: str) -> None:
    """Fill the template page.html and write it atomically. Raises ``OSError``."""
    html = files(__package__).joinpath("page.html").read_text("utf-8")
    parts = [
        f"<section><h2>{escaped(s.title)}</h2><p class='lead'>{escaped(s.text)}</p>{s.body}</section>" for s in sections
    ]
    html = html.replace("<!-- sections -->", "\n".join(parts)).replace("<!-- footer -->", escaped(footer))
    with atomic_write(path) as temporary:
        temporary.write_text(html, "utf-8")


def embed(picture: np.ndarray, *, quality: int | None = None) -> str:
    """A picture uint8 HWC as a data URI: WebP, lossless unless a ``quality`` (1 ... 100) is given."""
    stream = io.BytesIO()
    options: dict[str, Any] = {"lossless": True} if quality is None else {"quality": quality}
    Image.fromarray(picture).save(stream, "WEBP", method=1, **options)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def views(figures: Sequence[tuple[str, str]], size: tuple[int, int]) -> str:
    """Pictures of one ``size`` (height, width) side by side, given as (caption, data URI): they zoom together."""
    panes = "".join(
        f"<figure><div class='pane' tabindex='0' role='button' aria-label='{escaped(caption)}: zoom'>"
        f"<img src='{uri}' alt='{escaped(caption)}' draggable='false'></div><figcaption>{escaped(caption)}</figcaption>"
        "</figure>"
        for caption, uri in figures
    )
    return f"<div class='views' style='--ratio: {size[1]} / {size[0]}; --width: {size[1]}'>{panes}</div>"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table whose first column is words and whose other columns are numbers."""
    head = "".join(f"<th>{escaped(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{escaped(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """A row of numbers, each with what it means, given as (number, meaning)."""
    cells = "".join(f"<div><b>{escaped(number)}</b><span>{escaped(meaning)}</span></div>" for number, meaning in pairs)
    return f"<div class='facts'>{cells}</div>"


def explorer(picture: str, mosaic: str, reconstruction: str, grid: tuple[int, int], values: np.ndarray) -> str:
    """Picture, tokens and reconstruction with arrows between them; pointing at a patch shows its numbers.

    The pictures are data URIs of one whole number of patches, ``grid`` (rows, columns); values float [N, C], row-major.
    """
    scale = float(np.abs(values).max()) or 1.0
    rounded = np.round(values / scale * 127).astype(np.int8)
    data = {"columns": grid[1], "rows": grid[0], "channels": values.shape[1], "scale": scale}
    encoded = base64.b64encode(rounded.tobytes()).decode()
    panes = [
        ("the picture", picture, "patches of 16×16 pixels"),
        ("its tokens", mosaic, f"{len(values)} tokens of {values.shape[1]} numbers"),
        ("the picture again", reconstruction, "from the tokens alone"),
    ]
    figures = "<span class='arrow' aria-hidden='true'>→</span>".join(
        f"<figure><div class='cells'><img src='{uri}' alt='{escaped(name)}' draggable='false'><i></i></div>"
        f"<figcaption><b>{escaped(name)}</b> {escaped(note)}</figcaption></figure>"
        for name, uri, note in panes
    )
    return (
        f"<div class='explorer' style='--ratio: {grid[1]} / {grid[0]}' data-about='{json.dumps(data)}' "
        f"data-values='{encoded}'><div class='flow'>{figures}</div>"
        "<div class='numbers'><canvas width='960' height='150'></canvas><p></p></div></div>"
    )
