"""Decoded frames as upright RGB: colour matrix, range and display matrix as the file says. Used with PyAV alone."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_BT709, _RESERVED_RANGE = 1, 3  # AVColorSpace, AVColorRange
_UNTAGGED = (0, 2, 3)
"""Values of AVColorSpace that name no matrix: RGB, unspecified and reserved."""
_CONVERTED = (1, 4, 5, 6, 7, 9)
"""Those whose matrix FFmpeg's scaler knows: BT.709, FCC, BT.470BG, SMPTE 170M and 240M, BT.2020."""
_NAMES = {
    8: "YCgCo",
    10: "BT.2020 with constant luminance",
    11: "SMPTE ST 2085",
    12: "one derived from its primaries",
    13: "one derived from its primaries, with constant luminance",
    14: "ICtCp",
    15: "IPT-C2",
    16: "YCgCo-Re",
    17: "YCgCo-Ro",
}


def matrix_note(frame: VideoFrame) -> str | None:
    """What is done about a colour matrix that is not converted, one sentence; None where it is."""
    if _names_no_colours(frame) or frame.colorspace in (*_UNTAGGED, *_CONVERTED):
        return None
    name = _NAMES.get(frame.colorspace, f"number {frame.colorspace}")
    return f"its colour matrix is {name}, which is not converted: its colours are read as BT.709"


def to_rgb(frame: VideoFrame) -> np.ndarray:
    """uint8 [H, W, 3]. Untagged colours are BT.709 from 720 rows on, else BT.601, as players take them."""
    from av.video.reformatter import Interpolation

    exact = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    matrix = None
    if not _names_no_colours(frame):
        untagged = frame.colorspace in _UNTAGGED
        if (untagged and frame.height >= 720) or not (untagged or frame.colorspace in _CONVERTED):
            matrix = _BT709
        elif untagged:
            frame.colorspace = 2
    if frame.color_range == _RESERVED_RANGE:
        frame.color_range = 0
    return frame.reformat(format="rgb24", src_colorspace=matrix, interpolation=int(exact), threads=1).to_ndarray()


def _names_no_colours(frame: VideoFrame) -> bool:
    """Whether no matrix leads to its RGB: it is RGB, a palette or grey."""
    return frame.format.is_rgb or len(frame.format.components) < 3


def turn_of(frame: VideoFrame) -> tuple[int, int, int, int]:
    """The linear part (a, b, c, d) of the display matrix: column' = a column + c row, row' = b column + d row.

    Angles other than quarter turns count as none.
    """
    side_data: Iterable[Any] = frame.side_data  # a mapping whose iterator gives the values
    for data in side_data:
        if data.type.name == "DISPLAYMATRIX":
            values = struct.unpack("=9i", bytes(data)[:36])
            a, b, c, d = (round(values[i] / 65536) for i in (0, 1, 3, 4))
            if sorted(map(abs, (a, b, c, d))) == [0, 0, 1, 1] and abs(a * d - b * c) == 1:
                return a, b, c, d
    return 1, 0, 0, 1


def upright(rgb: np.ndarray, turn: tuple[int, int, int, int]) -> np.ndarray:
    """Frames [H, W, 3] turned and mirrored by the linear part of a display matrix; contiguous."""
    a, b, c, d = turn
    if b:
        rgb, a, d = rgb.swapaxes(0, 1), c, b
    return np.ascontiguousarray(rgb[::d, ::a])
