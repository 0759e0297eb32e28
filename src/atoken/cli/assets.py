"""3D on the command line: what ``encode``, ``decode`` and ``reconstruct`` read and write."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..evaluation.psnr import psnr
from ..media.frames import Clip
from ..media.image import write_image
from ..media.packed import PackedAsset, to_patches
from ..media.video_writer import write_video
from ..media.views import Views
from ..media.voxels import RESOLUTION
from ..model.tokenizer import AToken
from ..render.cameras import hammersley_sphere
from ..render.gaussians import Gaussians
from ..render.rasterize import render
from ..render.show import FPS, contact_sheet, side_by_side, turntable_frames, write_viewer
from .options import MOVIE_SUFFIXES

SHEET = ".views.png"
"""What takes the place of the suffix for the pictures beside a splat file."""
SPLAT_SUFFIX, PAGE_SUFFIX = ".ply", ".html"
COMPARED = 8
"""Views that a comparison shows."""


def count_voxels(views: Views | PackedAsset, model: AToken) -> int:
    """Tokens of an asset."""
    head = model.config.gaussians
    return len(to_patches(views, head.resolution if head else RESOLUTION)[0])


def write_gaussians(target: Path, gaussians: Gaussians) -> None:
    """Write a turntable, a page with a viewer, or the splat file and, beside it, eight views: as the suffix says."""
    suffix = target.suffix.lower()
    if suffix in MOVIE_SUFFIXES:
        write_video(target, Clip(turntable_frames(gaussians, size=512), fps=FPS))
    elif suffix == PAGE_SUFFIX:
        write_viewer(target, gaussians, title=target.stem)
    else:
        gaussians.save(target)
        pictures = render(gaussians, hammersley_sphere(8), background=(1.0, 1.0, 1.0)).to_uint8()
        write_image(target.with_suffix(SHEET), contact_sheet(pictures, 4))


def write_comparison(target: Path, views: Views | PackedAsset, gaussians: Gaussians) -> float:
    """Write views of the asset, each beside that of its Gaussians, as a sheet, or one after another as a video.

    The PSNR in dB over all views is returned.
    """
    pictures = render(gaussians, views.cameras).to_uint8()
    if target.suffix.lower() in MOVIE_SUFFIXES:
        write_video(target, Clip(np.concatenate([views.colour, pictures], 2), fps=1))
        return psnr(pictures, views.colour)
    shown = np.linspace(0, len(pictures) - 1, min(COMPARED, len(pictures))).round().astype(int)
    write_image(target, side_by_side(views.colour[shown], pictures[shown]))
    return psnr(pictures, views.colour)
