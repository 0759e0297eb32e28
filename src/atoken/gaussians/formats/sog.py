"""``.sog`` files (PlayCanvas, version 2): lossless WebP pictures with one pixel for each Gaussian, and ``meta.json``.

Either zipped in one file, or ``meta.json`` with the pictures beside it. Places are 16 bits of the logarithm
sign(x) ln(1 + |x|), quaternions the three smallest components of 8 bits, scales and colours indices of codebooks of 256
numbers, opacities bytes; the frame is that of the ``.ply``. Format: developer.playcanvas.com, "The SOG Format".
"""

from __future__ import annotations

import io
import json
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...core.errors import ReadError, reading
from ...core.regular import Folder, is_name, open_regular
from ...core.text import shortened
from ...media.image.opener import open_picture
from ...media.suffixes import SOG_META
from ..types import Gaussians
from .table import MOST_GAUSSIANS, Parts, from_smallest_three, gaussians_of, smallest_three

LONGEST_META = 1 << 22
"""Bytes; codebooks take some kilobytes."""
SPARE = 65536
"""Pixels that a picture may have beyond twice its Gaussians: writers fill rectangles."""
FORMATS = ("WEBP", "PNG")
PARTS = {"means": 2, "scales": 1, "quats": 1, "sh0": 1}
"""Pictures of each property."""
FIRST_TAG = 252
"""Alpha of a quaternion's pixel whose first component is the largest."""

Load = Callable[[str, int], bytes]
"""Bytes of a file by its name in ``meta.json``, at most so many."""


def read(path: Path) -> Gaussians:
    """The Gaussians of a ``.sog`` file, or of a ``meta.json`` with the pictures beside it.

    Nothing outside of the archive or the folder is read, and no more unpacked than its Gaussians need. Colours of
    directions are left out, with a warning. Raises ``ReadError``, or ``FileNotFoundError``.
    """
    with reading(path):
        if path.name == SOG_META:
            return _gaussians(lambda name, most: _beside(path, name, most), path)
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return _gaussians(lambda name, most: _member(archive, name, most, path), path)


def names_of(meta: Path) -> list[object]:
    """What an unzipped ``meta.json`` of SOG names as its pictures; nothing where it is another's."""
    try:
        table = json.loads(_beside(meta, SOG_META, LONGEST_META))
        return [name for part in (*PARTS, "shN") for name in table.get(part, {}).get("files", ())]
    except (OSError, ValueError, RecursionError, AttributeError, TypeError):
        return []


def files_of(meta: Path) -> list[Path]:
    """Those of ``names_of`` that lie in its folder, as ``read`` takes them."""
    folder = Folder(meta.parent)
    files = [meta.parent / name for name in names_of(meta) if is_name(name)]
    return [file for file in files if os.path.dirname(folder.real(file)) == folder.path]


def to_bytes(gaussians: Gaussians) -> bytes:
    """A zipped file in the asset's own frame. Raises ``ValueError`` for numbers that are not finite."""
    parts = Parts.of(gaussians)
    count = len(gaussians)
    width = max(4, -(-int(np.ceil(np.sqrt(count))) // 4) * 4)
    height = -(-count // width)

    def webp(*channels: np.ndarray) -> bytes:
        pixels = np.full((height * width, 4), 255, np.uint8)
        for index, channel in enumerate(channels):
            pixels[:count, index], pixels[count:, index] = channel, 0
        stream = io.BytesIO()
        image = Image.fromarray(pixels.reshape(height, width, 4))
        image.save(stream, "WEBP", lossless=True, exact=True)  # exact: colours behind alpha 0 are data
        return stream.getvalue()

    place = parts.place.astype(np.float64)
    place = np.sign(place) * np.log1p(np.abs(place))
    low, high = place.min(0), place.max(0)
    steps = np.round((place - low) / np.maximum(high - low, 1e-30) * 65535).astype(np.uint16)
    largest, rest = smallest_three(parts.rotation)
    quats = np.clip(np.round((rest / np.sqrt(2) + 0.5) * 255), 0, 255)
    scales, scale_book = _codebook(parts.scale)
    colours, colour_book = _codebook(parts.colour)
    opacity = np.round(parts.opacity * 255)
    meta = {
        "version": 2,
        "count": count,
        "means": {"mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": scale_book, "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": colour_book, "files": ["sh0.webp"]},
    }
    pictures = {
        "means_l.webp": webp(*(steps & 255).T),
        "means_u.webp": webp(*(steps >> 8).T),
        "quats.webp": webp(*quats.T, FIRST_TAG + largest),
        "scales.webp": webp(*scales.T),
        "sh0.webp": webp(*colours.T, opacity),
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, data in {SOG_META: json.dumps(meta).encode(), **pictures}.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # without the time, so that files are reproducible
    return stream.getvalue()


def _codebook(values: np.ndarray, entries: int = 256, rounds: int = 8) -> tuple[np.ndarray, list[float]]:
    """Indices uint8 like ``values`` [K, 3] into ascending numbers that stand for them, by Lloyd's algorithm."""
    flat = np.sort(values.ravel().astype(np.float64))
    book = np.unique(flat[np.linspace(0, len(flat) - 1, entries).round().astype(int)])
    book = np.unique(np.concatenate([book, np.linspace(flat[0], flat[-1], max(0, entries - len(book)))]))[:entries]
    for _ in range(rounds):
        ends = np.searchsorted(flat, (book[1:] + book[:-1]) / 2)
        ends = np.concatenate([[0], ends, [len(flat)]])
        sums = np.concatenate([[0], np.cumsum(flat)])
        counts = np.diff(ends)
        book = np.where(counts > 0, np.diff(sums[ends]) / np.maximum(counts, 1), book)
    index = np.searchsorted((book[1:] + book[:-1]) / 2, values)
    return index.astype(np.uint8), np.pad(book, (0, entries - len(book)), "edge").tolist()


def _gaussians(load: Load, path: Path) -> Gaussians:
    meta = json.loads(load(SOG_META, LONGEST_META))
    if not isinstance(meta, dict) or not set(PARTS) <= set(meta):
        raise ReadError(f"{path} is no SOG scene: its {SOG_META} names no {', '.join(PARTS)}; save it again")
    if meta.get("version") != 2:
        version = shortened(meta.get("version", 1))
        raise ReadError(f"{path} is SOG of version {version}: bring it to version 2 with splat-transform")
    count = meta["count"]
    if not isinstance(count, int) or not 0 < count <= MOST_GAUSSIANS:
        raise ReadError(f"{path} announces {shortened(count)} Gaussians, and 1 to {MOST_GAUSSIANS} are read")

    def pixels(part: str, which: int = 0) -> np.ndarray:
        return _pixels(load(meta[part]["files"][which], 64 * count + 16 * SPARE), count, f"{path}: {part}")

    def numbers(part: str, key: str, shape: int) -> np.ndarray:
        found = np.array(meta[part][key], np.float32)
        if found.shape != (shape,) or not np.isfinite(found).all():
            raise ReadError(f"{path}: {part} has no {shape} finite numbers as its {key}; save it again")
        return found

    if meta.get("shN"):
        warnings.warn(f"{path}: colours are taken without their harmonics of directions (shN)", stacklevel=4)
    low, high = numbers("means", "mins", 3), numbers("means", "maxs", 3)
    steps = pixels("means", 0)[:, :3] | pixels("means", 1)[:, :3].astype(np.uint16) << 8
    place = low + (high - low) * (steps / 65535)
    scales = numbers("scales", "codebook", 256)[pixels("scales")[:, :3]]
    sh0, quats = pixels("sh0"), pixels("quats")
    if (quats[:, 3] < FIRST_TAG).any():
        raise ReadError(f"{path}: quats.webp holds no quaternions (alpha below {FIRST_TAG}); save it again")
    rest = (quats[:, :3] / 255 - 0.5) * np.sqrt(2)
    rotations = from_smallest_three(quats[:, 3].astype(np.int64) - FIRST_TAG, rest)
    colours = numbers("sh0", "codebook", 256)[sh0[:, :3]]
    parts = Parts(np.sign(place) * np.expm1(np.abs(place)), scales, colours, sh0[:, 3] / 255, rotations)
    return gaussians_of(parts.columns(), path)


def _pixels(data: bytes, count: int, name: str) -> np.ndarray:
    """The first ``count`` pixels of a picture, uint8 [count, 4]."""
    with open_picture(data, name=name, max_pixels=2 * count + SPARE, formats=FORMATS) as image:
        if image.width * image.height < count:
            raise ReadError(f"{name} has {image.width * image.height} pixels for {count} Gaussians; save it again")
        return np.asarray(image.convert("RGBA")).reshape(-1, 4)[:count]


def _member(archive: zipfile.ZipFile, name: Any, most: int, path: Path) -> bytes:
    try:
        info = archive.getinfo(str(name))
    except KeyError:
        raise ReadError(f"{path} is no SOG scene: it holds no {shortened(name)}; save it again") from None
    with archive.open(info) as file:
        return _at_most(file.read(most + 1), most, f"{path}: {shortened(name)}")


def _beside(meta: Path, name: Any, most: int) -> bytes:
    """Bytes of a file in the folder of ``meta``, also after links are followed."""
    if not is_name(name):
        raise ReadError(f"{meta} refers to {shortened(repr(name))}, which is no name of a file")
    folder = Folder(meta.parent)
    target = folder.real(meta.parent / name)
    if name != SOG_META and os.path.dirname(target) != folder.path:
        raise ReadError(f"{meta} refers to {shortened(repr(name))}, outside its folder: refused")
    if name != SOG_META and not os.path.isfile(target):
        raise ReadError(f"{meta} needs {shortened(repr(name))}, which is missing")
    with open_regular(meta if name == SOG_META else target) as file:
        return _at_most(file.read(most + 1), most, f"{meta}: {shortened(name)}")


def _at_most(data: bytes, most: int, name: str) -> bytes:
    if len(data) > most:
        raise ReadError(f"{name} is larger than its Gaussians need ({most} bytes): refused")
    return data
