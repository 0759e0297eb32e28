"""3D assets to tokens and back, as Gaussians."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..gaussians.formats.files import refuse_unread
from ..gaussians.formats.ply import is_splat
from ..gaussians.types import Gaussians
from ..media.image.files import DEFAULT_MAX_PIXELS
from ..media.mesh.light import NONE
from ..media.suffixes import SOG_META, SPLAT_SUFFIXES, is_views_file
from ..media.views.packed import PACKED_SUFFIX, PackedAsset, read_packed, to_patches
from ..media.views.posed import read_views
from ..media.views.views import DEFAULT, ViewOptions, Views
from ..media.views.voxels import RESOLUTION, Voxels
from ..nn.packed import Packed
from ..tokens.tokens import Tokens
from .quantize import quantize

if TYPE_CHECKING:
    from ..media.mesh import Asset
    from ..media.views.cameras import Cameras
    from ..tokenizer.net import TokenizerNet
    from . import DecodeOptions, EncodeOptions


def encode(model: TokenizerNet, assets: Sequence[Any], options: EncodeOptions) -> list[Tokens]:
    """Tokens of each asset: a path, an ``Asset``, ``Views``, a ``PackedAsset`` or ``Voxels``."""
    tokens = []
    for asset in assets:
        feats, coords, geometry = voxels_of(model, asset)
        packed = Packed.cat([(feats, coords)])
        values = quantize(model, model.encode_packed(packed, pool=False).posterior, options)
        tokens.append(model.stamp(options.kind, values, coords, **geometry))
    return tokens


def decode(model: TokenizerNet, tokens: Sequence[Tokens], options: DecodeOptions) -> list[Gaussians]:
    """The Gaussians of each ``Tokens``, in the unit cube and with the way to the asset's own frame."""
    results = []
    for item in tokens:
        head = model.config.gaussians
        if head and set(item.grid[1:]) != {head.resolution}:
            raise ValueError(f"the Gaussian head has a grid of {head.resolution} voxels a side, the tokens {item.grid}")
        gaussians = model.decode_gaussians(Packed.cat([(item.latents.float(), item.coords)]))
        results.append(replace(gaussians.cpu(), transform=item.transform))
    return results


def embed(model: TokenizerNet, assets: Sequence[Any], options: EncodeOptions) -> list[Tensor]:
    """Embeddings of the assets, each fp32 [1, W] on the CPU."""
    pooled = (model.encode_packed(Packed.cat([voxels_of(model, asset)[:2]])).pooled for asset in assets)
    return [vector.cpu() for vector in pooled if vector is not None]


def read_any(
    source: Any, options: ViewOptions = DEFAULT, *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Views | PackedAsset:
    """Views of a 3D source: a mesh, point or splat file, a folder or file of posed RGB-D views, or what they hold.

    A packed asset stays one. Posed views have their own number and fields of view, and a packed asset its patches:
    ``ValueError`` where ``options`` ask for others. ``max_pixels`` bounds each texture, posed picture and depth.
    """
    if isinstance(source, Views | PackedAsset):
        return source
    name = ""
    if isinstance(source, str | os.PathLike):
        name, path = str(source), Path(source)
        if is_views_file(path) or (path.is_dir() and not (path / SOG_META).exists()):
            return _posed(path, options, max_pixels)
        source = read_solid(path, max_pixels=max_pixels)
    if isinstance(source, PackedAsset):
        if options != DEFAULT:
            raise ValueError(f"{name} holds voxels with their patches: views cannot be chosen any more")
        return source
    return replace(views_of(source, options=options, name=name), choice=options.choice)


def read_solid(path: Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Asset | Gaussians | PackedAsset:
    """What a 3D file holds: a mesh or points, Gaussians (of a folder, too: an unpacked SOG), or a packed asset."""
    from ..media.mesh import read_asset

    refuse_unread(path)
    if path.suffix.lower() == PACKED_SUFFIX:
        return read_packed(path)
    if is_splat_file(path):
        return Gaussians.load(path / SOG_META if path.is_dir() else path)
    return read_asset(path, max_pixels=max_pixels)


def views_of(source: Any, cameras: Cameras | None = None, options: ViewOptions = DEFAULT, name: str = "") -> Views:
    """Views of an ``Asset`` or of ``Gaussians`` from ``cameras``, those of ``options`` unless given."""
    from ..gaussians.views import splat_views
    from ..media.mesh import Asset
    from ..media.views.views import render_views

    cameras = cameras or options.cameras()
    if isinstance(source, Gaussians):
        if options.light not in (None, NONE):
            raise ValueError(f"{name} holds Gaussians, which have no surface to light: leave light at {NONE!r}")
        return splat_views(source, cameras, options.extent, name or "the splat")
    if not isinstance(source, Asset):
        raise ValueError(f"a 3D source is a path, an Asset, Gaussians or Views, not a {type(source).__name__}")
    return render_views(source, cameras, extent=options.extent, light=options.light)


def is_splat_file(path: Path) -> bool:
    """Whether a file holds Gaussians, or a folder an unpacked SOG."""
    suffix = path.suffix.lower()
    return suffix in SPLAT_SUFFIXES or path.name == SOG_META or path.is_dir() or (suffix == ".ply" and is_splat(path))


def _posed(path: Path, options: ViewOptions, max_pixels: int) -> Views:
    if (options.views, options.fov) != (DEFAULT.views, DEFAULT.fov) or options.light not in (None, NONE):
        raise ValueError(f"{path} holds views: their number, field of view and light cannot be chosen")
    posed = read_views(path, size=options.size, extent=options.extent, max_pixels=max_pixels)
    return replace(posed, choice=options.choice)


def voxels_of(model: TokenizerNet, asset: Any) -> Voxels:
    """The voxels of a 3D source on the grid of ``model``; those that it has already stay."""
    if isinstance(asset, Voxels):
        return asset
    head = model.config.gaussians
    return to_patches(read_any(asset), head.resolution if head else RESOLUTION)
