"""3D on the command line: what ``encode``, ``decode`` and ``reconstruct`` read and write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..codec.assets import read_any, voxels_of
from ..gaussians.raster.rasterize import render
from ..gaussians.types import Gaussians
from ..gaussians.viewer import BACKGROUND, FPS, contact_sheet, on_grey, side_by_side, turntable_frames, write_viewer
from ..media.image.files import write_image
from ..media.video.frames import Clip
from ..media.video.writer import write_video
from ..media.views.cameras import hammersley_sphere
from ..media.views.packed import PackedAsset
from ..media.views.views import ViewOptions, Views
from ..media.views.voxels import Voxels
from ..metrics.psnr import psnr
from ..pipeline.atoken import AToken
from .settings import MOVIE_SUFFIXES

SHEET = ".views.png"
"""What takes the place of the suffix for the pictures beside a splat file."""
PAGE_SUFFIX = ".html"
COMPARED = 8
"""Views that a comparison shows."""


@dataclass(frozen=True)
class Solid:
    """A 3D source: what it looks like, and the voxels that a model encodes."""

    views: Views | PackedAsset
    voxels: Voxels


def read_solid(path: Path, options: ViewOptions, max_pixels: int, model: AToken) -> Solid:
    """The views of a 3D file, and its voxels as ``model`` has them."""
    views = read_any(path, options, max_pixels=max_pixels)
    return Solid(views, voxels_of(model, views))


def write_gaussians(target: Path, gaussians: Gaussians) -> None:
    """Write a turntable, a page with a viewer, or the splat file and, beside it, eight views: as the suffix says."""
    suffix = target.suffix.lower()
    if suffix in MOVIE_SUFFIXES:
        write_video(target, Clip(turntable_frames(gaussians, size=512), fps=FPS))
    elif suffix == PAGE_SUFFIX:
        write_viewer(target, gaussians, title=target.stem)
    else:
        pictures = render(gaussians, hammersley_sphere(8), background=BACKGROUND).to_uint8()
        write_image(target.with_suffix(SHEET), contact_sheet(pictures, 4))
        gaussians.save(target)  # last, as the command takes it for the sign that all is there


def write_comparison(target: Path, views: Views | PackedAsset, gaussians: Gaussians) -> float:
    """Write views of the asset, each beside that of its Gaussians, as a sheet, or one after another as a video.

    Both are on grey. The PSNR in dB over all views, on black, is returned.
    """
    renders = render(gaussians, views.cameras)
    mask = views.mask if isinstance(views, Views) else None
    pictures, own = renders.over(BACKGROUND).to_uint8(), on_grey(views.colour, mask)
    if target.suffix.lower() in MOVIE_SUFFIXES:
        write_video(target, Clip(np.concatenate([own, pictures], 2), fps=1))
    else:
        shown = np.linspace(0, len(pictures) - 1, min(COMPARED, len(pictures))).round().astype(int)
        write_image(target, side_by_side(own[shown], pictures[shown]))
    return psnr(renders.to_uint8(), views.colour)
