"""GIF and animated PNG as parts: what is painted where and when, and the pictures that come of it, as in browsers.

Each part is decoded by itself, as a file of one picture. Pillow's own frames differ from the browsers' where the first
part does not cover the screen, or is no frame at all (a PNG's picture for programs that know no animations).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import IO

import numpy as np

from ..image.files import read_rgba
from ..image.pillow import blend, upright_canvas
from ..image.tags import png_chunks
from .facts import Damaged

KEEP, CLEAR, RESTORE = range(3)
"""What becomes of a part before the next one: it stays, is made transparent, or what was there before comes back."""

_BAND = 2**16
_PNG = b"\x89PNG\r\n\x1a\n"
_COMMON = {b"PLTE", b"tRNS", b"iCCP", b"cICP", b"sRGB", b"gAMA", b"cHRM", b"sBIT"}


@dataclass(frozen=True)
class Part:
    """One picture of an animation."""

    left: int
    top: int
    duration: Fraction
    """Seconds, as the file says: may be 0."""
    disposal: int
    over: bool
    """Blended over what is there; else it replaces that, transparency and all."""
    data: bytes
    """A GIF or PNG file."""


def gif_parts(stream: IO[bytes]) -> Iterator[Part]:
    """The parts of a GIF (GIF89a, sections 18 to 23). Raises ``Damaged`` behind the last where it has no end mark."""
    stream.seek(0)
    screen = stream.read(13)
    palette = stream.read(3 << (screen[10] & 7) + 1) if len(screen) == 13 and screen[10] & 128 else b""
    control = b"\0\0\0\0"  # flags, delay in 1/100 s, transparent entry
    while block := stream.read(1):
        if block == b"!":
            label, content = stream.read(1), _sub_blocks(stream)
            if label == b"\xf9" and len(content) >= 6:
                control = content[1:5]
        elif block == b",":
            descriptor = stream.read(9)
            own = stream.read(3 << (descriptor[8] & 7) + 1) if len(descriptor) == 9 and descriptor[8] & 128 else b""
            data = stream.read(1) + _sub_blocks(stream)
            if len(descriptor) < 9:
                break
            size, delay = descriptor[4:8], int.from_bytes(control[1:3], "little")
            alone = screen[:6] + size + screen[10:] + palette + b"!\xf9\x04" + control + b"\0"
            alone += b",\0\0\0\0" + size + descriptor[8:] + own + data + b";"
            left, top = (int.from_bytes(descriptor[at : at + 2], "little") for at in (0, 2))
            disposal = {2: CLEAR, 3: RESTORE}.get(control[0] >> 2 & 7, KEEP)
            yield Part(left, top, Fraction(delay, 100), disposal, True, alone)
            control = b"\0\0\0\0"
        elif block == b";":
            return
    raise Damaged("the file ends before its end mark", None)


def _sub_blocks(stream: IO[bytes]) -> bytes:
    """Blocks of a length each, up to and with the empty one that ends them, as they are."""
    found = []
    while length := stream.read(1):
        found += [length, stream.read(length[0])]
        if length == b"\0":
            break
    return b"".join(found)


def png_frames(stream: IO[bytes]) -> int:
    """How many frames an animated PNG says it has; 0 for any other PNG."""
    for kind, start, length in png_chunks(stream):
        if kind == b"acTL" and length == 8:
            stream.seek(start)
            return int.from_bytes(stream.read(4), "big")
        if kind == b"IDAT":
            break
    return 0


def png_parts(stream: IO[bytes]) -> Iterator[Part]:
    """The frames of an animated PNG (PNG, third edition, 4.9 and 11.3.6), without a picture that is none of them.

    Raises ``Damaged`` behind the last that is whole where the file has no end mark.
    """
    declared = png_frames(stream)
    header, common, control, count = b"", b"", b"", 0
    data: list[bytes] = []
    for kind, start, length in png_chunks(stream):
        stream.seek(start)
        if kind == b"IHDR":
            header = stream.read(min(length, 13))
        elif kind in _COMMON:
            common += _chunk(kind, stream.read(length))
        elif kind in (b"fcTL", b"IEND"):
            if control and data:
                yield _png_part(header, common, control, data)
                count += 1
            if kind == b"IEND":
                return
            control, data = stream.read(min(length, 26)), []
        elif control and kind in (b"IDAT", b"fdAT"):
            body, check = stream.read(length), stream.read(4)
            if len(body) < length or check != zlib.crc32(kind + body).to_bytes(4, "big"):
                break
            data.append(body if kind == b"IDAT" else body[4:])
    else:
        if control and data:
            yield _png_part(header, common, control, data)
            count += 1
    raise Damaged(f"frame {count} cannot be read", max(declared - count, 0) or None)


def _png_part(header: bytes, common: bytes, control: bytes, data: list[bytes]) -> Part:
    if len(header) < 13 or len(control) < 26:
        raise Damaged("a frame has no header", None)
    left, top = (int.from_bytes(control[at : at + 4], "big") for at in (12, 16))
    delay, parts = (int.from_bytes(control[at : at + 2], "big") for at in (20, 22))
    file = _PNG + _chunk(b"IHDR", control[4:12] + header[8:]) + common
    file += b"".join(_chunk(b"IDAT", piece) for piece in data) + _chunk(b"IEND", b"")
    disposal = {1: CLEAR, 2: RESTORE}.get(control[24], KEEP)
    return Part(left, top, Fraction(delay, parts or 100), disposal, control[25] == 1, file)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def painted(
    parts: Iterator[Part],
    size: tuple[int, int],
    name: object,
    background: tuple[int, int, int],
    max_pixels: int,
    orientation: int = 1,
) -> Iterator[tuple[Fraction, np.ndarray]]:
    """Duration and (H, W, 3) uint8 of each part on a screen of ``size`` (width, height), over ``background``, upright.

    What no part has covered is transparent; what reaches beyond the screen is cut off. Raises ``ReadError`` for a part
    that cannot be read.
    """
    canvas = np.zeros((size[1], size[0], 4), np.uint8)
    for index, part in enumerate(parts):
        rgba = read_rgba(part.data, name=f"frame {index} of {name}", max_pixels=max_pixels)
        place = canvas[part.top : part.top + rgba.shape[0], part.left : part.left + rgba.shape[1]]
        rgba = rgba[: place.shape[0], : place.shape[1]]
        disposal = CLEAR if part.disposal == RESTORE and index == 0 else part.disposal
        before = place.copy() if disposal == RESTORE else None
        if part.over:
            _paint_over(place, rgba)
        else:
            place[:] = rgba
        shown, stored = upright_canvas(size, 3, orientation)
        for rows in _bands(canvas):
            stored[rows] = blend(canvas[rows, :, :3], canvas[rows, :, 3], background)
        yield part.duration, shown
        if disposal != KEEP:
            place[:] = 0 if before is None else before


def _bands(canvas: np.ndarray) -> Iterator[slice]:
    step = max(1, _BAND // max(1, canvas.shape[1]))
    return (slice(top, top + step) for top in range(0, len(canvas), step))


def _paint_over(place: np.ndarray, rgba: np.ndarray) -> None:
    """Porter and Duff's over, straight alpha of 8 bits, rounded."""
    for rows in _bands(place):
        above, below = rgba[rows].astype(np.float32), place[rows].astype(np.float32)
        share, rest = above[..., 3:] / 255, below[..., 3:] / 255
        alpha = share + rest * (1 - share)
        mixed = (above[..., :3] * share + below[..., :3] * rest * (1 - share)) / np.maximum(alpha, 1e-6)
        place[rows] = np.concatenate([mixed, alpha * 255], -1).round()
