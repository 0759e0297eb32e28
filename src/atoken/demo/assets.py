"""The 3D part of the demo: Gaussians in a viewer that works from the file, and a turntable."""

from __future__ import annotations

import base64
from importlib.resources import as_file, files

from ..render.gaussians import Gaussians
from ..render.show import animation, turntable_frames, viewer, viewer_script
from . import page

FRAMES, SIZE, DISTANCE = 24, 192, 1.8


def section() -> page.Section:
    """The bundled chair (recipes/gaussians), to be turned by hand beside our own renders of it."""
    with as_file(files("atoken").joinpath("assets/splats/chair.ply")) as path:
        gaussians = Gaussians.load(path)
    frames = turntable_frames(gaussians, FRAMES, size=SIZE, distance=DISTANCE)
    turning = "data:image/webp;base64," + base64.b64encode(animation(frames, fps=12)).decode()
    figures = (
        f"<figure>{viewer(gaussians, label='A chair of Gaussians: drag to turn')}"
        "<figcaption>in your browser: drag to turn, wheel to zoom</figcaption></figure>"
        f"<figure><img src='{turning}' alt='the chair on a turntable' style='width: 100%'>"
        "<figcaption>the same file by atoken.render</figcaption></figure>"
    )
    style = "display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 1rem; max-width: 52rem"
    return page.Section(
        "3D: Gaussians",
        "3D tokens decode to Gaussians, which are saved as .ply for any splat viewer. These "
        f"{len(gaussians):,} were made by a small Gaussian head trained on pictures of this one chair; a trained 3D "
        "tokenizer does not come with the package yet.",
        f"<div style='{style}'>{figures}</div>{viewer_script()}",
    )
