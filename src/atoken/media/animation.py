"""Animated GIF, WebP, AVIF and PNG, read frame by frame with Pillow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from PIL import Image

from .facts import Damaged, VideoFacts
from .frames import Frame
from .pillow import blend, load_picture, orientation_of, pillow_limit, rgb_and_alpha, upright

ANIMATION_SUFFIXES = frozenset({".gif", ".webp", ".avif"})
"""Lower-case suffixes of files that may hold a still picture or an animation."""

UNSAID = 0.1
"""Seconds that a frame stays which says 0, as in the browsers."""

_FORMATS = ("GIF", "WEBP", "AVIF", "PNG")


def is_animation(path: str | os.PathLike[str]) -> bool:
    """Whether the file is a GIF, WebP, AVIF or PNG with more than one frame, or with damage behind the first one.

    False where it cannot be opened.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return _declared(image) != 1
    except Exception:  # decoders raise nearly every class there is; the reader of pictures says what is wrong
        return False


def is_picture(head: bytes) -> bool:
    """Whether a file that begins with these 16 bytes is of a format read here."""
    return (
        head[:4] == b"GIF8"
        or head[:8] == b"\x89PNG\r\n\x1a\n"
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"))
    )


def probe(path: Path, max_pixels: int) -> VideoFacts:
    """What the file says of itself. Raises ``ValueError``."""
    with _opened(path, max_pixels) as image:
        width, height = image.size
        return VideoFacts(image.format or "", image.format or "", width, height, None, _declared(image), image.mode)


def decode(path: Path, background: tuple[int, int, int], max_pixels: int) -> Iterator[Frame]:
    """All frames, blended over ``background``. Raises ``Damaged`` after the last one that can be read."""
    with _opened(path, max_pixels) as image:
        declared, time = _declared(image), 0.0
        orientation = orientation_of(image, path.name, [])
        for index in count() if declared is None else range(declared):
            try:
                image.seek(index)
                picture = load_picture(image)
                rgb, alpha = rgb_and_alpha(picture, path.name, [])
            except Exception as error:  # decoders raise nearly every class there is
                lost = None if declared is None or image.format == "GIF" else declared - index  # a GIF tells no number
                raise Damaged(f"frame {index} cannot be read", lost) from error
            if alpha is not None:
                rgb = blend(rgb, alpha, background)
            duration = image.info.get("duration", 0) / 1000 or UNSAID
            yield Frame(time, upright(rgb, orientation), duration)
            time = round(time + duration, 6)
    if image.format == "GIF":
        with path.open("rb") as file:
            file.seek(-min(16, path.stat().st_size), os.SEEK_END)
            if b"\x3b" not in file.read():
                raise Damaged("the file ends before its end mark", None)


def _declared(image: Image.Image) -> int | None:
    """How many frames there are; None where a damaged GIF, whose frames are counted by reading it, does not tell."""
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # see decode
        return None


@contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    with pillow_limit.at_least(max_pixels):
        try:
            image = Image.open(path, formats=_FORMATS)
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:  # the system's own
                raise
            too_large = isinstance(error, Image.DecompressionBombError)
            what = "far too large" if too_large else "truncated, damaged or of an unsupported kind"
            raise ValueError(f"{path} is {what}") from error
        with image:
            width, height = image.size
            if width * height > max_pixels:
                raise ValueError(
                    f"{path} has {width * height} pixels a frame, more than the limit of {max_pixels}: "
                    "if you trust it, raise max_pixels (--max-pixels)"
                )
            yield image
