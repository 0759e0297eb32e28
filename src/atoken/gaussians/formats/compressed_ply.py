"""SuperSplat's compressed ``.ply``: chunks of 256 Gaussians, 16 bytes each, between the chunk's least and most.

Layout as in PlayCanvas' splat-transform: positions and scales of 11, 10 and 11 bits, the quaternion's three smallest
components of 10 bits, colour and opacity of 8. Written files lose as much; colours of directions are left out.
"""

from __future__ import annotations

import warnings

import numpy as np

from ...core.errors import ReadError
from ..types import SH_C0, Gaussians
from .ply import Header, tables
from .table import Columns, Parts, from_smallest_three, smallest_three

CHUNK = 256
PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
RANGES = tuple(
    f"{end}_{axis}"
    for axes in (("x", "y", "z"), ("scale_x", "scale_y", "scale_z"), ("r", "g", "b"))
    for end in ("min", "max")
    for axis in axes
)
LEAST_SCALE = -20.0
"""Flat Gaussians count as this thick, as in the reference, so that they do not take the range of their chunk."""


def unpacked(data: bytes, header: Header, name: object) -> Columns:
    """The columns of a compressed file. Raises ``ReadError``."""
    chunk, vertex, rest = header.find("chunk"), header.find("vertex"), header.find("sh")
    needed = set(RANGES[:12]) | ({"min_r"} & set(chunk.fields if chunk else ()) and set(RANGES[12:]))
    if chunk is None or vertex is None or not needed <= set(chunk.fields) or not set(PACKED) <= set(vertex.fields):
        raise ReadError(f"{name} is a compressed splat without all of its properties: save it again")
    if any(vertex.fields[key] != "u4" for key in PACKED) or chunk.count < -(-vertex.count // CHUNK):
        raise ReadError(f"{name} is a compressed splat whose properties or chunks do not fit: save it again")
    found = tables(data, header, ("chunk", "vertex"), name)
    table, ranges = found["vertex"], found["chunk"]
    if rest is not None and rest.fields:
        count = len(rest.fields)
        warnings.warn(f"{name}: colours are taken without the {count} numbers of their directions", stacklevel=5)
    of = np.arange(len(table)) // CHUNK

    def spread(shares: np.ndarray, keys: list[str]) -> np.ndarray:
        low, high = (np.stack([ranges[f"{end}_{key}"][of] for key in keys], 1) for end in ("min", "max"))
        return low * (1 - shares) + high * shares

    places = spread(_bits(table[PACKED[0]], (11, 10, 11)), list("xyz"))
    scales = spread(_bits(table[PACKED[2]], (11, 10, 11)), ["scale_x", "scale_y", "scale_z"])
    colour = _bits(table[PACKED[3]], (8, 8, 8, 8))
    rgb = spread(colour[:, :3], list("rgb")) if "min_r" in chunk.fields else colour[:, :3]
    rotation = table[PACKED[1]]
    rest_of = (_bits(rotation & 0x3FFFFFFF, (10, 10, 10)) - 0.5) * np.sqrt(2)
    rotations = from_smallest_three(rotation >> 30, rest_of)
    return Parts(places, scales, (rgb - 0.5) / SH_C0, colour[:, 3], rotations).columns()


def to_bytes(gaussians: Gaussians) -> bytes:
    """A compressed file in the asset's own frame; neighbours are stored together. Raises ``ValueError`` for NaN."""
    parts = Parts.of(gaussians)
    order = _along_a_curve(parts.place)
    parts = Parts(*(part[order] for part in parts))
    place, scale = parts.place, np.maximum(parts.scale, LEAST_SCALE)
    colour, alpha = parts.colour * SH_C0 + 0.5, parts.opacity[:, None]
    largest, rest = smallest_three(parts.rotation)
    starts = np.arange(0, len(order), CHUNK)
    of = np.arange(len(order)) // CHUNK
    shares, ranges = [], []
    for values in (place, scale, colour):
        low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
        shares.append((values - low[of]) / np.maximum(high - low, 1e-30)[of])
        ranges += [low, high]
    rotation = _packed(rest / np.sqrt(2) + 0.5, (10, 10, 10)) | largest.astype(np.uint32) << 30
    colours = _packed(np.concatenate([shares[2], alpha], 1), (8, 8, 8, 8))
    words = [_packed(shares[0], (11, 10, 11)), rotation, _packed(shares[1], (11, 10, 11)), colours]
    header = ["ply", "format binary_little_endian 1.0", f"element chunk {len(starts)}"]
    header += [f"property float {key}" for key in RANGES]
    header += [f"element vertex {len(order)}", *(f"property uint {key}" for key in PACKED), "end_header", ""]
    body = np.concatenate(ranges, 1).astype("<f4").tobytes() + np.stack(words, 1).astype("<u4").tobytes()
    return "\n".join(header).encode() + body


def _bits(words: np.ndarray, widths: tuple[int, ...]) -> np.ndarray:
    """Unsigned fractions of so many bits each, the first in the highest bits: [K] -> float64 [K, len(widths)]."""
    shifts = np.cumsum([0, *widths[::-1]])[-2::-1]
    parts = [words >> int(shift) & (1 << width) - 1 for shift, width in zip(shifts, widths, strict=True)]
    return np.stack(parts, 1) / (2.0 ** np.array(widths) - 1)


def _packed(shares: np.ndarray, widths: tuple[int, ...]) -> np.ndarray:
    """The inverse of ``_bits``: [K, len(widths)] in 0 ... 1 -> uint32 [K]."""
    words = np.zeros(len(shares), np.uint32)
    for share, width in zip(shares.T, widths, strict=True):
        whole = np.clip(np.floor(share * ((1 << width) - 1) + 0.5), 0, (1 << width) - 1)
        words = words << np.uint32(width) | whole.astype(np.uint32)
    return words


def _along_a_curve(places: np.ndarray) -> np.ndarray:
    """An order of points [K, 3] in which neighbours lie near: by the interleaved bits of their cells (Morton)."""
    low, side = places.min(0), max(float(np.ptp(places, 0).max()), 1e-30)
    cells = ((places - low) / side * 1023).astype(np.uint32)
    code = np.zeros(len(places), np.uint32)
    for bit in range(10):
        for axis in range(3):
            code |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return code.argsort(kind="stable")
