"""Animated GIF, WebP, AVIF and PNG, read frame by frame with Pillow, with the times that the file has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np

from ...core.errors import ReadError
from ...core.regular import open_regular
from ..image.opener import DEFAULT_MAX_PIXELS, Opened, decoding, opened
from ..image.pillow import orientation_of, rgb_of
from ..image.tags import boxes
from ..signatures import announced_size, picture_format, webp_frames
from .facts import Damaged, VideoFacts
from .frames import Frame
from .parts import gif_parts, painted, png_frames, png_parts

UNSAID = Fraction(1, 10)
"""Seconds that a frame stays which says 0, as in the browsers."""

_FORMATS = ("GIF", "WEBP", "AVIF", "PNG")


def is_animation(path: str | os.PathLike[str]) -> bool:
    """Whether the file is a GIF, WebP, AVIF or PNG with more than one frame; no pixel is decoded.

    False where it cannot be opened: the reader of pictures says what is wrong.
    """
    try:
        with open_regular(path) as stream:
            kind = picture_format(stream.read(64))
            if kind == "AVIF":
                with opened(path, max_pixels=2**32) as picture:
                    return bool(picture.image.n_frames > 1)
            return (_declared(kind, stream) or 0) > 1
    except (OSError, ReadError):
        return False


def is_picture(head: bytes) -> bool:
    """Whether a file that begins with these 16 bytes or more is of a format read here."""
    return picture_format(head) in _FORMATS


def probe(path: Path, max_pixels: int = DEFAULT_MAX_PIXELS) -> VideoFacts:
    """What the file says of itself. Raises ``ReadError``."""
    with opened(path, max_pixels=max_pixels, formats=_FORMATS) as picture, open_regular(path) as stream:
        with decoding(picture):
            width, height = _size(picture, stream)
            declared = picture.image.n_frames if picture.kind == "AVIF" else _declared(picture.kind, stream)
            turned = orientation_of(picture.image, path, []) >= 5
        if turned:
            width, height = height, width
        notes = tuple(note.removeprefix(f"{path} is ") for note in picture.notes if "frame" not in note)
        return VideoFacts(picture.kind, picture.kind, width, height, None, declared, picture.image.mode, notes=notes)


def decode(path: Path, background: tuple[int, int, int], max_pixels: int) -> Iterator[Frame]:
    """All frames, blended over ``background``. Raises ``Damaged`` after the last one that can be read."""
    with opened(path, max_pixels=max_pixels, formats=_FORMATS) as picture, open_regular(path) as stream:
        if picture.kind == "GIF" or (picture.kind == "PNG" and png_frames(stream)):
            pictures = _painted(picture, stream, background, max_pixels)
        else:
            pictures = _frames(picture, stream, background)
        time = Fraction(0)
        for start, duration, pixels in pictures:
            time = time if start is None else start
            duration = duration or UNSAID
            yield Frame(float(time), pixels, float(duration))
            time += duration


def _declared(kind: str | None, stream: IO[bytes]) -> int | None:
    """How many frames a GIF, WebP or PNG has, as far as it goes; ``stream`` may stand anywhere."""
    if kind == "WEBP":
        return webp_frames(stream)
    if kind == "PNG":
        return png_frames(stream) or 1
    count = 0
    if kind == "GIF":
        try:
            for _ in gif_parts(stream):
                count += 1
        except Damaged:
            return count if count > 1 else None
    return count


def _size(picture: Opened, stream: IO[bytes]) -> tuple[int, int]:
    stream.seek(0)
    size: tuple[int, int] = announced_size(picture.kind, stream) or picture.image.size
    return size


def _painted(
    picture: Opened, stream: IO[bytes], background: tuple[int, int, int], max_pixels: int
) -> Iterator[tuple[Fraction | None, Fraction, np.ndarray]]:
    """Start, where the file tells it, duration and pixels of the frames of a GIF or animated PNG."""
    total = png_frames(stream) if picture.kind == "PNG" else None  # a GIF tells no number
    parts = png_parts(stream) if picture.kind == "PNG" else gif_parts(stream)
    count, size = 0, _size(picture, stream)
    orientation = orientation_of(picture.image, picture.name, [])
    try:
        for duration, pixels in painted(parts, size, picture.name, background, max_pixels, orientation):
            yield None, duration, pixels
            count += 1
    except ReadError as error:
        reason = error.reason if isinstance(error, Damaged) else f"frame {count} cannot be read"
        raise Damaged(reason, None if total is None else max(total - count, 1)) from error


def _frames(
    picture: Opened, stream: IO[bytes], background: tuple[int, int, int]
) -> Iterator[tuple[Fraction | None, Fraction, np.ndarray]]:
    """Start, where the file tells it, duration and pixels of the frames of a WebP or AVIF."""
    image, name = picture.image, picture.name
    count, times = image.n_frames, _avif_times(stream) if picture.kind == "AVIF" else []
    for index in range(count):
        try:
            with decoding(picture):
                image.seek(index)
                pixels = rgb_of(image, name, [], background, picture.colours)
        except ReadError as error:
            raise Damaged(f"frame {index} cannot be read", count - index) from error
        if len(times) == count:
            yield *times[index], pixels
        else:
            start = Fraction(round(image.info["timestamp"]), 1000) if picture.kind == "AVIF" else None
            yield start, Fraction(round(image.info.get("duration", 0)), 1000), pixels


def _avif_times(stream: IO[bytes]) -> list[tuple[Fraction, Fraction]]:
    """Start and duration of each frame of an AVIF sequence, exactly (ISO/IEC 14496-12, 8.4.2 and 8.6.1.2)."""
    scale, steps = 0, b""
    for kind, start, end in boxes(stream):
        if kind in (b"mdhd", b"stts") and not steps:
            stream.seek(start)
            body = stream.read(min(end - start, 2**24))
            if kind == b"mdhd":
                at = 20 if body[:1] == b"\1" else 12
                scale = int.from_bytes(body[at : at + 4], "big")
            else:
                steps = body[8:]
    if scale == 0:
        return []
    times: list[tuple[Fraction, Fraction]] = []
    time = 0
    for at in range(0, len(steps) - 7, 8):
        count, step = (int.from_bytes(steps[here : here + 4], "big") for here in (at, at + 4))
        if len(times) + count > 2**20:
            return []
        for _ in range(count):
            times.append((Fraction(time, scale), Fraction(step, scale)))
            time += step
    return times
