"""``.spz`` files (Niantic): columns of bytes behind a header, gzipped (versions 2, 3) or in Zstandard streams (4).

Places are fixed-point numbers of 24 bits, log scales bytes of 1/16 from -10 on, colours and opacities bytes, the
quaternion its three smallest components of 10 bits (version 2: x, y, z of 8); axes are right, up, back. Version 3 is
written, with as many fractional bits as the places leave. Layout: https://github.com/nianticlabs/spz.
"""

from __future__ import annotations

import gzip
import struct
import warnings
import zlib
from itertools import pairwise

import numpy as np

from ...core.errors import ReadError, reading
from ..types import Gaussians
from .table import MOST_GAUSSIANS, Parts, from_smallest_three, gaussians_of, smallest_three

MAGIC, VERSION = b"NGSP", 3
HEADER = struct.Struct("<4sIIBBBB")
"""Magic, version, Gaussians, degree of the harmonics, fractional bits, flags, and streams (version 4) or nothing."""
TOC = struct.Struct("<I")
HAS_EXTENSIONS = 2
HARMONICS = (0, 3, 8, 15, 24)
"""Coefficients of each colour by degree."""
COLOUR_SCALE = 0.15
MOST_BITS = 20
"""Fractional bits that are written: a millionth of a unit."""
AXES, TURN = np.array([1.0, -1.0, -1.0]), np.array([1.0, 1.0, -1.0, -1.0])
"""Signs of places and of quaternions from the frame of the .ply (right, down, front) to that of the file, and back."""


def read(data: bytes, name: object) -> Gaussians:
    """The Gaussians of a file. Colours of directions are left out, with a warning. Raises ``ReadError``."""
    with reading(name):
        columns = _columns_of_gzip(data, name) if data[:2] == b"\x1f\x8b" else _columns_of_zstd(data, name)
        return gaussians_of(columns, name)


def to_bytes(gaussians: Gaussians) -> bytes:
    """A file of version 3 in the asset's own frame.

    Raises ``ValueError`` for numbers that are not finite and for places beyond 8 million units.
    """
    whole = Parts.of(gaussians)
    place = whole.place.astype(np.float64) * AXES
    bits = int(np.clip(np.floor(np.log2((2**23 - 1) / max(np.abs(place).max(), 1e-9))), -1, MOST_BITS))
    if bits < 0:
        raise ValueError("the places are too far out for .spz, which has 24 bits for them: write a .ply")
    fixed = np.round(place * 2**bits).astype("<i4")
    rotation = (whole.rotation * TURN)[:, [1, 2, 3, 0]]  # x, y, z, w
    largest, rest = smallest_three(rotation)
    size = np.round(np.abs(rest) * np.sqrt(2) * 511).astype(np.uint32).clip(0, 511) | (rest < 0).astype(np.uint32) << 9
    packed = largest.astype(np.uint32) << 30 | size[:, 0] << 20 | size[:, 1] << 10 | size[:, 2]
    parts = [
        HEADER.pack(MAGIC, VERSION, len(place), 0, bits, 0, 0),
        fixed.view(np.uint8).reshape(-1, 4)[:, :3].tobytes(),
        _byte(whole.opacity * 255),
        _byte(whole.colour * (COLOUR_SCALE * 255) + 127.5),
        _byte((whole.scale + 10) * 16),
        packed.astype("<u4").tobytes(),
    ]
    return gzip.compress(b"".join(parts), mtime=0)


def _byte(values: np.ndarray) -> bytes:
    return np.clip(np.round(values), 0, 255).astype(np.uint8).tobytes()


def _columns_of_gzip(data: bytes, name: object) -> dict[str, np.ndarray]:
    """Unpacks no more than the header announces."""
    stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
    head = stream.decompress(data, HEADER.size)
    version, count, degree, bits, flags, _ = _header(head, name)
    if version not in (2, 3):
        raise ReadError(f"{name} is SPZ of version {version}, which is not gzipped: save it again as version 3")
    if flags & HAS_EXTENSIONS:
        raise ReadError(f"{name} has vendor extensions of SPZ version {version}: save it without them")
    sizes = _sizes(count, degree, 3 if version == 2 else 4)
    body = stream.decompress(stream.unconsumed_tail, sum(sizes) or 1)
    if len(body) < sum(sizes):
        raise ReadError(f"{name} is truncated: {count} Gaussians were announced; download it again")
    ends = np.cumsum([0, *sizes])
    parts = [body[start:end] for start, end in pairwise(ends)]
    return _columns(parts, degree, bits, version, name)


def _columns_of_zstd(data: bytes, name: object) -> dict[str, np.ndarray]:
    version, count, degree, bits, _, streams = _header(data[: HEADER.size], name)
    if version != 4:
        raise ReadError(f"{name} is SPZ of version {version}, which this cannot read: save it as version 3 or 4")
    try:
        import zstandard
    except ImportError:
        raise ReadError(f"{name} is SPZ of version 4, which needs: pip install 'atoken[mesh]'") from None
    sizes = _sizes(count, degree, 4)
    wanted = [size for size in sizes if size]
    (at,) = TOC.unpack_from(data, HEADER.size)
    toc = [struct.unpack_from("<QQ", data, at + 16 * index) for index in range(min(streams, len(sizes)))]
    if [size for _, size in toc] != wanted or streams != len(wanted):
        raise ReadError(f"{name} is damaged: its streams do not hold {count} Gaussians; download it again")
    at += 16 * streams
    parts = []
    for packed, size in toc:
        part = zstandard.ZstdDecompressor().stream_reader(data[at : at + packed]).read(size + 1)
        if len(part) != size:
            raise ReadError(f"{name} is damaged: a stream is shorter or longer than announced; download it again")
        parts.append(part)
        at += packed
    filled = iter(parts)
    return _columns([next(filled) if size else b"" for size in sizes], degree, bits, version, name)


def _header(head: bytes, name: object) -> tuple[int, int, int, int, int, int]:
    """Version, Gaussians, degree, fractional bits, flags and streams."""
    if len(head) < HEADER.size or not head.startswith(MAGIC):
        raise ReadError(f"{name} is no SPZ file" if head else f"{name} is empty (0 bytes)")
    _, version, count, degree, bits, flags, streams = HEADER.unpack(head)
    if count > MOST_GAUSSIANS:
        raise ReadError(f"{name} announces {count} Gaussians, more than {MOST_GAUSSIANS}: split it or save it as .ply")
    if degree >= len(HARMONICS) or bits > 24:
        raise ReadError(f"{name} has harmonics of degree {degree} and {bits} fractional bits, which SPZ has not")
    return version, count, degree, bits, flags, streams


def _sizes(count: int, degree: int, rotation: int) -> list[int]:
    """Bytes of places, opacities, colours, scales, rotations and harmonics."""
    return [9 * count, count, 3 * count, 3 * count, rotation * count, 3 * HARMONICS[degree] * count]


def _columns(parts: list[bytes], degree: int, bits: int, version: int, name: object) -> dict[str, np.ndarray]:
    place, alpha, colour, scale, rotation, rest = (np.frombuffer(part, np.uint8) for part in parts)
    if degree and (rest != 128).any():
        count = 3 * HARMONICS[degree]
        warnings.warn(f"{name}: colours are taken without the {count} numbers of their directions", stacklevel=5)
    low, middle, high = place.reshape(-1, 3).astype(np.int32).T
    fixed = (low | middle << 8 | high << 16) - ((high >> 7) << 24)
    xyzw = _first_three(rotation) if version == 2 else _smallest_three(rotation)
    return Parts(
        place=fixed.reshape(-1, 3) / 2.0**bits * AXES,
        scale=scale.reshape(-1, 3) / 16 - 10,
        colour=(colour.reshape(-1, 3) / 255 - 0.5) / COLOUR_SCALE,
        opacity=alpha / 255,
        rotation=xyzw[:, [3, 0, 1, 2]] * TURN,
    ).columns()


def _first_three(rotation: np.ndarray) -> np.ndarray:
    xyz = rotation.reshape(-1, 3) / 127.5 - 1
    return np.concatenate([xyz, np.sqrt(np.maximum(0, 1 - (xyz**2).sum(1, keepdims=True)))], 1)


def _smallest_three(rotation: np.ndarray) -> np.ndarray:
    words = rotation.view("<u4")
    parts = np.stack([words >> shift & 1023 for shift in (20, 10, 0)], 1)
    rest = (parts & 511) / 511 / np.sqrt(2) * np.where(parts >> 9, -1, 1)
    return from_smallest_three((words >> 30).astype(np.int64), rest)
