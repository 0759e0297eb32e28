"""The page of ``atoken search --html``: one file with the thumbnails in it, and links to what was found."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..core.text import escaped, link_to
from ..media.kinds import modality_of

THUMBNAIL = 160
"""Longest side of a thumbnail in pixels."""


def search_page(query: str, results: Sequence[tuple[Path, float]], root: Path, folder: Path) -> str:
    """HTML of files below ``root`` with their cosines; links are relative to ``folder``, where the page will lie."""
    cards = "\n".join(_card(path, score, root, folder) for path, score in results)
    title = escaped(query)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #222; background: #fafafa }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax({THUMBNAIL}px, 1fr)); gap: 1rem }}
a {{ color: inherit; text-decoration: none; overflow-wrap: anywhere }}
.thumb {{ width: {THUMBNAIL}px; height: {THUMBNAIL}px; object-fit: contain; background: #808080; display: block }}
</style>
<h1>{title}</h1>
<main>
{cards}
</main></html>
"""


def _card(path: Path, score: float, root: Path, folder: Path) -> str:
    from PIL import Image

    image = Image.fromarray(_picture_of(path))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    picture = f'<img class="thumb" alt="" src="data:image/jpeg;base64,{data}">'
    link = link_to(os.path.relpath(path, folder or "."))
    return f'<a href="{link}">{picture}{escaped(path.relative_to(root))}<br>{score:.3f}</a>'


def _picture_of(path: Path) -> np.ndarray:
    """What stands for a file: the picture, a video's first frame, the first view of an asset."""
    modality = modality_of(path)
    if modality == "image":
        from ..media.image.files import read_image

        return read_image(path)
    if modality == "video":
        from ..media.video.source import open_video

        return next(iter(open_video(path))).pixels
    from ..codec.assets import read_any

    return read_any(path).colour[0]
