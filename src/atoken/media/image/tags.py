"""Colour tags other than ICC profiles: what they say, and pixels from there to sRGB.

PNG has cICP, gAMA and cHRM (PNG, third edition, 11.3.2), AVIF and HEIC have nclx, with the code points of ITU-T H.273.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

Corners = tuple[float, float, float, float, float, float, float, float]
"""x and y of white, red, green and blue in CIE 1931."""

_SRGB: Corners = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_PRIMARIES: dict[int, Corners] = {  # H.273, table 2
    1: _SRGB,
    9: (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),  # BT.2020
    12: (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # Display P3
}
_ALIKE_SRGB = {2, 5, 6, 7}  # unspecified, and those of standard definition, which are near enough to leave alone
_GAMMA = {4: 2.2, 5: 2.8, 8: 1.0}  # H.273, table 3: transfer characteristics that are powers
_CURVES_ALIKE = {1, 2, 6, 7, 13, 14, 15}  # taken as sRGB's, as players and browsers do
_HDR = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True)
class Colours:
    """How the values of a picture are to be taken where that is not sRGB."""

    corners: Corners = _SRGB
    gamma: float | None = None
    """Linear light is the value (0...1) to this power; None for the curve of sRGB."""

    def converted(self, rgb: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 of these colours to sRGB uint8, rounded; what lies outside is clipped channel by channel."""
        values = np.arange(256) / 255
        light = _linear(values) if self.gamma is None else values**self.gamma
        mixed = light.astype(np.float32)[rgb] @ self._matrix().astype(np.float32).T
        steps = np.clip(mixed, 0, 1) * (len(_ENCODED) - 1)
        return _ENCODED[(steps + 0.5).astype(np.int32)]

    def _matrix(self) -> np.ndarray:
        return np.linalg.solve(_to_xyz(_SRGB), _to_xyz(self.corners))


def _linear(values: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, from sRGB values to linear light."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _table() -> np.ndarray:
    light = np.linspace(0, 1, 2**16)
    values = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(values * 255).astype(np.uint8)


_ENCODED = _table()
"""sRGB of linear light 0...1 in 65,535 steps, which are finer than the steepest step of 8 bits."""


def _to_xyz(corners: Corners) -> np.ndarray:
    """Linear RGB to CIE XYZ, white at Y = 1. Raises ``LinAlgError`` or ``ZeroDivisionError`` for impossible corners."""
    xy = np.array(corners).reshape(4, 2)
    xyz = np.array([(x / y, 1, (1 - x - y) / y) for x, y in xy.tolist()])  # [white, red, green, blue]
    return xyz[1:].T * np.linalg.solve(xyz[1:].T, xyz[0])


def of_codes(primaries: int, transfer: int) -> tuple[Colours | None, str | None]:
    """What H.273 code points say: colours to convert from (None for sRGB), and what cannot be done about the rest."""
    if transfer in _HDR:
        return None, f"HDR ({_HDR[transfer]}): the values are taken as they are, without tone mapping"
    if primaries not in _PRIMARIES and primaries not in _ALIKE_SRGB:
        return None, f"tagged with colour primaries {primaries}, which are not known here: taken as sRGB"
    if transfer not in _GAMMA and transfer not in _CURVES_ALIKE:
        return None, f"tagged with transfer characteristics {transfer}, which are not known here: taken as sRGB"
    colours = Colours(_PRIMARIES.get(primaries, _SRGB), _GAMMA.get(transfer))
    return (None if colours == Colours() else colours), None


def of_file(kind: str, stream: IO[bytes]) -> tuple[Colours | None, str | None]:
    """What the tags of a picture file say, as ``of_codes``; ``stream`` is at its start."""
    if kind == "PNG":
        return of_png(stream)
    return of_boxes(stream) if kind in ("AVIF", "HEIC") else (None, None)


def of_png(stream: IO[bytes]) -> tuple[Colours | None, str | None]:
    """What the chunks before the pixels of a PNG say: the first of cICP, iCCP (of which nothing here), sRGB, and gAMA
    with cHRM (PNG, third edition, 4.3)."""
    found: dict[bytes, bytes] = {}
    for kind, start, length in png_chunks(stream):
        if kind == b"IDAT":
            break
        if kind in (b"cICP", b"sRGB", b"iCCP", b"gAMA", b"cHRM"):
            stream.seek(start)
            found[kind] = stream.read(min(length, 32))
    if len(codes := found.get(b"cICP", b"")) == 4:
        colours, note = of_codes(codes[0], codes[1])
        return colours, note if codes[3] else note or "of narrow range (cICP), and taken as of full range"
    if b"iCCP" in found or b"sRGB" in found or not found:
        return None, None
    gamma = int.from_bytes(found.get(b"gAMA", b""), "big") / 100_000 if b"gAMA" in found else 1 / 2.2
    corners = _corners(found[b"cHRM"]) if b"cHRM" in found else _SRGB
    if corners is None or not 0.1 <= gamma <= 10:
        return None, "tagged with colours that cannot be (gAMA or cHRM): taken as sRGB"
    same_curve, same_corners = abs(gamma * 2.2 - 1) < 0.01, np.allclose(corners, _SRGB, atol=1e-3)
    if same_curve and same_corners:
        return None, None
    return Colours(_SRGB if same_corners else corners, None if same_curve else 1 / gamma), None


def outranks_profile(stream: IO[bytes]) -> bool:
    """Whether a PNG has the cICP that counts before its ICC profile."""
    for kind, _, length in png_chunks(stream):
        if kind in (b"cICP", b"IDAT"):
            return kind == b"cICP" and length == 4
    return False


def _corners(chunk: bytes) -> Corners | None:
    values = np.frombuffer(chunk[: len(chunk) // 4 * 4], ">u4") / 100_000
    if len(values) != 8 or (values[1::2] <= 0).any() or (values > 1).any():
        return None
    corners: Corners = tuple(values.tolist())
    red, green, blue = np.array(corners[2:]).reshape(3, 2)
    area = (green - red)[0] * (blue - red)[1] - (green - red)[1] * (blue - red)[0]
    return corners if abs(area) > 1e-3 else None


def png_chunks(stream: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start of its content, length) of the chunks of a PNG as far as they go; ``stream`` may move in between."""
    at = 8
    while True:
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8:
            return
        length = int.from_bytes(head[:4], "big")
        yield head[4:], at + 8, length
        at += length + 12


HOLDERS = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"stsd": 8, b"av01": 78}
HOLDERS |= dict.fromkeys((b"moov", b"trak", b"mdia", b"minf", b"stbl"), 0)
"""Boxes on the way to colours and times, and how many bytes stand in front of the boxes inside."""


def of_boxes(stream: IO[bytes]) -> tuple[Colours | None, str | None]:
    """What the first nclx of an AVIF or HEIC says (ISO/IEC 14496-12, 12.1.5)."""
    for kind, start, end in boxes(stream):
        if kind == b"colr" and end - start >= 11:
            stream.seek(start)
            body = stream.read(11)
            if body[:4] == b"nclx":
                return of_codes(int.from_bytes(body[4:6], "big"), int.from_bytes(body[6:8], "big"))
    return None, None


def boxes(
    stream: IO[bytes], start: int = 0, end: int | None = None, depth: int = 0
) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of the boxes of an ISO base media file, and of those inside ``HOLDERS``, depth first."""
    if end is None:
        end = stream.seek(0, 2)
    while start + 8 <= end:
        stream.seek(start)
        head = stream.read(16)
        size, kind, inside = int.from_bytes(head[:4], "big"), head[4:8], start + 8
        if size == 1:
            size, inside = int.from_bytes(head[8:16], "big"), start + 16
        until = end if size == 0 else start + size
        if until <= start or until > end or until < inside:
            return
        yield kind, inside, until
        if kind in HOLDERS and depth < 8:
            yield from boxes(stream, inside + HOLDERS[kind], until, depth + 1)
        start = until
