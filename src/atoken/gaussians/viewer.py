"""Gaussians for people: turntables, contact sheets and a page to turn them in a browser."""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Sequence
from html import escape
from importlib.resources import files

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..core.files import atomic_write
from ..media.views.cameras import turntable
from .formats.ply import to_bytes
from .raster.rasterize import render
from .types import Gaussians

FPS = 20
GREY = 119
"""sRGB level of the one background of 3D in pictures, clips and pages for people: middle grey (18 % of the light of
white), on which both black and white show."""
BACKGROUND = (GREY / 255,) * 3
PAGE_GREY = f"#{GREY:02x}{GREY:02x}{GREY:02x}"


@torch.no_grad()
def turntable_frames(
    gaussians: Gaussians,
    frames: int = 48,
    *,
    size: int = 256,
    distance: float | None = None,
    background: Sequence[float] | Tensor = BACKGROUND,
) -> np.ndarray:
    """Pictures uint8 [frames, size, size, 3] from a circle around the unit cube, as far away as it needs by default."""
    return render(gaussians, turntable(frames, size=size, distance=distance), background=background).to_uint8()


def animation(frames: np.ndarray, fps: int = FPS) -> bytes:
    """Frames uint8 [T, H, W, 3] as an endless WebP."""
    first, *others = (Image.fromarray(frame) for frame in frames)
    stream, duration = io.BytesIO(), round(1000 / fps)
    first.save(stream, "WEBP", save_all=True, append_images=others, duration=duration, loop=0, quality=80, method=2)
    return stream.getvalue()


def on_grey(pictures: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Pictures uint8 [V, H, W, 3] on black with grey where ``mask`` [V, H, W] is false, or where they are black."""
    there = np.asarray(np.any(pictures > 0, axis=-1)) if mask is None else mask
    return np.where(there[..., None], pictures, np.uint8(GREY))


def contact_sheet(pictures: np.ndarray, columns: int | None = None, gap: int = 4) -> np.ndarray:
    """Pictures uint8 [V, H, W, 3] in rows on grey, about as many rows as columns: uint8 HWC."""
    count, height, width, _ = pictures.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), GREY, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def side_by_side(left: np.ndarray, right: np.ndarray, gap: int = 4) -> np.ndarray:
    """Views of an asset and of its reconstruction, each uint8 [V, H, W, 3], as a sheet of pairs."""
    strip = np.full((*left.shape[:2], gap, 3), GREY, np.uint8)
    pairs = np.concatenate([left, strip, right], 2)
    return contact_sheet(pairs, max(1, round(math.sqrt(len(pairs) / 2))), gap * 3)


def viewer(gaussians: Gaussians, *, label: str = "3D view") -> str:
    """HTML of a canvas in which the Gaussians turn and can be turned; needs ``viewer_script`` once on the page."""
    data = base64.b64encode(to_bytes(gaussians)).decode()
    return (
        f"<canvas class='splats' role='img' aria-label='{escape(label)}' style='width: 100%; aspect-ratio: 1; "
        f"cursor: grab; background: {PAGE_GREY}' data-ply='{data}'></canvas>"
    )


def viewer_script() -> str:
    """The script that brings every canvas of ``viewer`` on its page to life; it fetches nothing."""
    code = files("atoken").joinpath("assets/viewer/splats.js").read_text("utf-8")
    start = (
        "for (const canvas of document.querySelectorAll('canvas.splats')) {\n"
        "  const bytes = Uint8Array.from(atob(canvas.dataset.ply), (c) => c.charCodeAt(0));\n"
        "  try { showSplats(canvas, bytes.buffer); }\n"
        "  catch (error) { canvas.replaceWith('Cannot draw here: ' + error.message); }\n"
        "}\n"
    )
    return f"<script>\n{code}{start}</script>"


def write_viewer(path: str | os.PathLike[str], gaussians: Gaussians, *, title: str = "AToken") -> None:
    """Write a page that shows the Gaussians in any browser, from the file itself. Raises ``OSError``."""
    page = (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(title)}</title>"
        "<meta name='viewport' content='width=device-width'>"
        f"<style>body {{ margin: 0; background: {PAGE_GREY} }} "
        "canvas { display: block; max-height: 100vh; margin: auto }</style>"
        f"<body>{viewer(gaussians, label=title)}{viewer_script()}</body></html>\n"
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, "utf-8")
