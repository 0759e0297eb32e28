"""The one way by which this package opens pictures: few formats, by content, with a limit checked on the header.

Pillow's own `Image.open` is used nowhere: it hands a file to whichever of some forty plugins accepts it, and that for
EPS starts Ghostscript. Here the class of a format is called directly, so that no registry and no limit of the process
is read or changed.
"""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from ..core.errors import ReadError, reading
from .signatures import ARCHIVES, announced_size, picture_format

DEFAULT_MAX_PIXELS = 2**26
"""Most pixels read by default (8192 squared): more than any phone's camera stores at its usual setting."""

FORMATS: dict[str, Any] = {
    "JPEG": JpegImagePlugin.jpeg_factory,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
}
"""Pillow's name of each format that is read, and what opens it."""

PictureSource = str | os.PathLike[str] | bytes | IO[bytes]


@contextmanager
def open_picture(
    source: PictureSource,
    *,
    name: object = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    formats: Collection[str] = tuple(FORMATS),
) -> Iterator[Image.Image]:
    """Open a JPEG, PNG, WebP, AVIF, TIFF, BMP or GIF, whatever its name; no other format and no program.

    The picture that is given is not decoded yet: ``size``, ``mode`` and ``info`` are those of the header. It is open
    within the block only. Whatever Pillow raises there (its pixels are decoded when they are first used) becomes a
    ``ReadError`` that names the picture, so keep the block to what decodes.

    Args:
        source: A path, the bytes of a file, or a binary file object (read from its start, left open).
        name: What messages call it; the path, or "the image data", by default.
        max_pixels: Most pixels (width * height), checked on the header.
        formats: Those of ``FORMATS`` that are accepted here.

    Raises:
        ReadError: It is empty, of another format, too large, has no pixels, or is damaged.
        OSError: From opening the path, or from the disk.
    """
    with ExitStack() as stack:
        stream, called = _stream(source, stack)
        name = called if name is None else name
        head = stream.read(64)
        kind = _format_of(head, name, formats)
        stream.seek(0)
        size = announced_size(kind, stream)
        if size is not None:
            check_size(size, name, max_pixels)
        stream.seek(0)
        with reading(name, f"export it again, or as PNG (it begins like {kind})"):
            image = FORMATS[kind](stream, "")
            check_size(image.size, name, max_pixels)
            yield image


def check_size(size: tuple[int, int], name: object, max_pixels: int) -> None:
    """Raise ``ReadError`` unless a picture of (width, height) has 1 to ``max_pixels`` pixels."""
    width, height = size
    if width < 1 or height < 1:
        raise ReadError(f"{name} has no pixels ({width}x{height}): export it again")
    if width * height > max_pixels:
        raise ReadError(
            f"{name} has {width * height} pixels, more than the limit of {max_pixels}: "
            "if you trust it, raise max_pixels (--max-pixels)"
        )


def _stream(source: PictureSource, stack: ExitStack) -> tuple[IO[bytes], object]:
    """A seekable binary stream at its start, and a name for messages."""
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source), "the image data"
    if isinstance(source, str | os.PathLike):
        file = stack.enter_context(open(source, "rb"))  # noqa: SIM115
        return (file if file.seekable() else io.BytesIO(file.read())), os.fspath(source)
    if not hasattr(source, "read"):
        raise ValueError(f"source is a {type(source).__name__}: give a path, bytes, a binary file or a PIL image")
    name = source.name if isinstance(getattr(source, "name", None), str) else "the image data"
    if hasattr(source, "seekable") and source.seekable():
        source.seek(0)
    data = source.read()
    if isinstance(data, str):
        raise ValueError(f"{name} is opened as text: open it in binary mode ('rb')")
    return io.BytesIO(data), name


def _format_of(head: bytes, name: object, formats: Collection[str]) -> str:
    """Pillow's name of the format that begins with the bytes ``head``. Raises ``ReadError`` for none of ``formats``."""
    if not head:
        raise ReadError(f"{name} is empty (0 bytes): save or download it again")
    if head.startswith(ARCHIVES):
        raise ReadError(f"{name} is an archive: unpack it and give the files inside")
    kind = picture_format(head)
    if kind in formats:
        return kind
    listed = ", ".join("WebP" if kind == "WEBP" else kind for kind in formats)
    raise ReadError(f"{name} is none of {listed}: convert it to PNG")
