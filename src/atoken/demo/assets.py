"""The 3D part of the demo: Gaussians in a viewer that works from the file, beside what they show."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files

import numpy as np
import torch

from ..gaussians.raster.rasterize import render
from ..gaussians.types import SH_C0, Gaussians
from ..gaussians.viewer import BACKGROUND, animation, on_grey, turntable_frames, viewer, viewer_script
from ..media.views.packed import PackedAsset, read_packed
from ..metrics.psnr import psnr
from ..pipeline.atoken import AToken
from ..tokens.tokens import Tokens
from . import page
from .overview import Column

FRAMES, SIZE, DISTANCE = 24, 192, 1.8
SOLIDS = ("chair", "duck")
"""Packed by recipes/gaussians/solids.py."""


@dataclass(frozen=True)
class Decoded:
    """A solid, and its tokens and Gaussians by each model."""

    asset: PackedAsset
    ways: list[tuple[Tokens, Gaussians]]


def reconstruct(model: AToken, discrete: AToken | None) -> list[Decoded]:
    """A chair and a duck there and back, by each model that can; nothing where ``model`` cannot decode 3D."""
    models = [model] if discrete is None or discrete.config.gaussians is None else [model, discrete]
    solids = [solid(name) for name in SOLIDS]
    head = model.config.gaussians
    if head is None or not all(head.resolution in asset.voxels for asset in solids):
        return []
    done = []
    for asset in solids:
        coded = [(each, each.encode(asset, kind=each.config.kinds[0])) for each in models]
        done.append(Decoded(asset, [(tokens, each.decode(tokens)) for each, tokens in coded]))
    return done


def section(solids: Sequence[Decoded]) -> page.Section:
    """Solids there and back, to be turned by hand; the bundled splat where there are none."""
    if not solids:
        return _splat()
    return page.Section(
        "3D",
        "Patches of sixteen views of an object lie at the voxels of a grid that they show, each one token; tokens "
        "decode to Gaussians, which are saved as .ply for any splat viewer.",
        _row([figure for solid in solids for figure in _there_and_back(solid)], 1 + len(solids[0].ways))
        + viewer_script(),
    )


def solid(name: str) -> PackedAsset:
    """One of ``SOLIDS``."""
    return read_packed(files("atoken").joinpath(f"assets/solids/{name}.npz").read_bytes(), name)


def column(solid: Decoded) -> Column:
    """A held-out view of a solid; its tokens are drawn as what they decode to, in their colours."""
    view = solid.asset.held_out_cameras[:1]

    def draw(paint: np.ndarray) -> np.ndarray:
        gaussians = solid.ways[0][1]
        each = len(gaussians) // len(paint)
        painted = (torch.from_numpy(paint).float() / 255 - 0.5) / SH_C0
        recoloured = replace(gaussians, sh=painted.repeat_interleave(each, 0))
        return render(recoloured, view, background=BACKGROUND).to_uint8()[0]

    returned = tuple(render(gaussians, view, background=BACKGROUND).to_uint8()[0] for _, gaussians in solid.ways)
    return Column(on_grey(solid.asset.held_out[:1])[0], solid.ways[0][0], draw, returned)


def _there_and_back(solid: Decoded) -> list[str]:
    asset = solid.asset
    held_out = on_grey(asset.held_out[:1])[0]
    figures = [_picture(page.embed(held_out), f"the {asset.name}, from a side that the model did not get")]
    for tokens, gaussians in solid.ways:
        score = psnr(render(gaussians, asset.held_out_cameras).to_uint8(), asset.held_out)
        figures.append(
            f"<figure>{viewer(gaussians, label=f'The {asset.name} as Gaussians: drag to turn')}"
            f"<figcaption>{len(tokens):,} {tokens.kind} tokens, {len(gaussians):,} Gaussians, {score:.1f} dB in views "
            "that the model did not get: drag to turn, wheel to zoom</figcaption></figure>"
        )
    return figures


def _splat() -> page.Section:
    """The bundled chair (recipes/gaussians/chair.py) beside our own renders of it."""
    with as_file(files("atoken").joinpath("assets/splats/chair.ply")) as path:
        gaussians = Gaussians.load(path)
    frames = turntable_frames(gaussians, FRAMES, size=SIZE, distance=DISTANCE)
    turning = "data:image/webp;base64," + base64.b64encode(animation(frames, fps=12)).decode()
    drawn = (
        f"<figure>{viewer(gaussians, label='A chair of Gaussians: drag to turn')}"
        "<figcaption>in your browser: drag to turn, wheel to zoom</figcaption></figure>"
    )
    return page.Section(
        "3D: Gaussians",
        "3D tokens decode to Gaussians, which are saved as .ply for any splat viewer. These "
        f"{len(gaussians):,} were made by a small Gaussian head trained on pictures of this one chair, as the model of "
        "this page has no head for 3D.",
        _row([drawn, _picture(turning, "the same file by atoken.gaussians")], 2) + viewer_script(),
    )


def _picture(uri: str, caption: str) -> str:
    return f"<figure><img src='{uri}' alt='{caption}' style='width: 100%'><figcaption>{caption}</figcaption></figure>"


def _row(figures: Sequence[str], columns: int) -> str:
    style = f"display: grid; grid-template-columns: repeat({columns}, minmax(0, 1fr)); gap: 1rem"
    return f"<div style='{style}; max-width: {22 * columns}rem'>{''.join(figures)}</div>"
