"""The one way by which this package opens pictures: few formats, by content, with a limit checked on the header.

Pillow's own `Image.open` is used nowhere: it hands a file to whichever of some forty plugins accepts it, and that for
EPS starts Ghostscript. Here the class of a format is called directly, so that no registry and no limit of the process
is read or changed.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TgaImagePlugin,
    WebPImagePlugin,
)

from ...core.errors import ReadError, reading
from ...core.regular import open_regular
from ..signatures import announced_size, foreign, is_raw, is_targa, picture_format
from . import tags
from .pillow import XMP
from .tiff import Tiff, Unread

DEFAULT_MAX_PIXELS = 2**26
"""Most pixels read by default (8192 squared): more than a phone's camera stores unless told to."""

ALWAYS_READ = 2**24
"""Pixels (4096 squared) up to which a picture may be as small a file as it likes."""

PIXELS_A_BYTE = 2**12
"""Above that, more pixels for a byte of the file are taken for a decompression bomb: only blank pages have them."""

PictureSource = str | os.PathLike[str] | bytes | IO[bytes]


def _optional(modules: tuple[str, ...], name: str) -> Callable[..., Image.Image]:
    """The class ``name`` of the first module that is installed, imported when it is first called for."""

    def opened(stream: IO[bytes], filename: str) -> Image.Image:
        for module in modules:
            try:
                found = importlib.import_module(module)
            except ImportError:
                continue
            picture: Image.Image = getattr(found, name)(stream, filename)
            return picture
        raise ModuleNotFoundError(name=modules[0])

    return opened


FORMATS: dict[str, Any] = {
    "JPEG": JpegImagePlugin.jpeg_factory,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "TIFF": Tiff,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "TGA": TgaImagePlugin.TgaImageFile,
    "HEIC": _optional(("pi_heif", "pillow_heif"), "HeifImageFile"),
    "JXL": _optional(("pylibjxl.pillow_plugin",), "JxlImageFile"),
}
"""Each format that is read, and what opens it: (stream, "") -> picture."""

_FOREIGN_ORDER = "B" if sys.byteorder == "little" else "L"
_OTHER_BYTES = {f"{mode};16B": f"{mode};16L" for mode in ("RGB", "RGBA", "RGBX", "CMYK")}
_OTHER_BYTES |= {other: packing for packing, other in _OTHER_BYTES.items()}
_OTHER_BYTES |= {f"{packing[:-1]}N": packing for packing in _OTHER_BYTES if packing[-1] == _FOREIGN_ORDER}
"""Pillow's names for colours of 16 bits, upper byte first or last (N: as this machine has it), and for the opposite."""


@dataclass
class Opened:
    """A picture that is open, not yet decoded."""

    image: Any
    """Pillow's ``ImageFile``."""
    name: object
    kind: str
    """One of ``FORMATS``."""
    colours: tags.Colours | None = None
    """What its values mean where it has no ICC profile, None for sRGB."""
    low: Any = None
    """The same picture with the lower bytes of colours of 16 bits, of which ``image`` has the upper ones."""
    notes: list[str] = field(default_factory=list)
    """What is peculiar: colour tags of which nothing can be made, and frames behind the first."""


@contextmanager
def open_picture(
    source: PictureSource,
    *,
    name: object = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    formats: Collection[str] = tuple(FORMATS),
) -> Iterator[Image.Image]:
    """Open a JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF or TGA, or a HEIC or JPEG XL where their packages are installed.

    By content, whatever its name (but TGA, which has no first bytes of its own, by its suffix); no other format, and
    never a program. The picture that is given is not decoded yet:
    ``size``, ``mode`` and ``info`` are those of the header. It is open within the block only. Whatever Pillow raises
    there (pixels are decoded when they are first used) becomes a ``ReadError`` that names the picture, so keep the
    block to what decodes. ``read_image`` and ``read_rgba`` of ``atoken.media.image.files`` mind colours and alpha.

    Args:
        source: A path, the bytes of a file, or a binary file object (read from its start, left open).
        name: What messages call it; the path, or "the image data", by default.
        max_pixels: Most pixels (width * height), checked on the header. Unless it is above the default, a file that is
            far too small for its pixels is refused too (``PIXELS_A_BYTE``).
        formats: Those of ``FORMATS`` that are accepted here.

    Raises:
        ReadError: It is empty, of another format, too large, has no pixels, or is damaged.
        OSError: From opening the path, or from the disk.
    """
    with opened(source, name=name, max_pixels=max_pixels, formats=formats) as picture, decoding(picture):
        yield picture.image


def decoding(picture: Opened) -> AbstractContextManager[None]:
    """The boundary around whatever decodes pixels of ``picture``."""
    return reading(picture.name, f"export it again, or as PNG (it begins like {picture.kind})")


@contextmanager
def opened(
    source: PictureSource,
    *,
    name: object = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    formats: Collection[str] = tuple(FORMATS),
) -> Iterator[Opened]:
    """``open_picture`` with what else the file says; ``decoding`` is left to the caller."""
    with ExitStack() as stack:
        stream, called = _stream(source, stack)
        name = called if name is None else name
        kind = _format_of(stream.read(64), called, name, formats)
        length = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        size = announced_size(kind, stream)
        if size is not None:
            check_size(size, name, max_pixels, length)
        stream.seek(0)
        picture = Opened(None, name, kind)
        with decoding(picture):
            picture.colours, note = tags.of_file(kind, stream)
            outranked = kind == "PNG" and tags.outranks_profile(stream)
            stream.seek(0)
            try:
                picture.image = image = FORMATS[kind](stream, "")
            except ModuleNotFoundError as error:
                raise ReadError(
                    f"{name} is {kind}, which needs more packages: pip install 'atoken[pictures]', or convert it to PNG"
                ) from error
            except Unread as error:
                raise ReadError(f"{name} is {error}, which is not read: export it as PNG or 8-bit TIFF") from error
            check_size(image.size, name, max_pixels, length)
            if kind == "JXL" and image.is_animated:
                raise ReadError(f"{name} is an animated JPEG XL, which is not read: export its frames")
            frames = (
                1 if kind == "GIF" else getattr(image, "n_frames", 1)
            )  # before decoding: a TIFF moves through the file
            picture.low = _lower_bytes(kind, image, stream, stack)
        if outranked:
            image.info.pop("icc_profile", None)
        if kind in ("WEBP", "AVIF"):  # as if Pillow had opened it: it lets go of the decoded bytes then
            image._exclusive_fp = True
        for key in XMP:  # Pillow would turn a TIFF by it while decoding
            image.info.pop(key, None)
        if note is not None:
            picture.notes.append(f"{name} is {note}")
        if kind == "GIF":
            frames = _gif_frames(picture)
        if frames > 1:
            picture.notes.append(f"{name} holds {frames} frames: only the first is read, {frames - 1} left out")
        yield picture


def _lower_bytes(kind: str, image: Any, stream: IO[bytes], stack: ExitStack) -> Any:
    """A PNG or TIFF of 16-bit colours opened once more, so that Pillow takes the other byte of each; else None.

    Pillow has no modes for them and drops the lower bytes. It knows both orders of bytes, though.
    """
    if kind not in ("PNG", "TIFF") or getattr(image, "_planar_configuration", 1) != 1:
        return None
    low = None
    for index, tile in enumerate(image.tile):
        *rest, options = tile
        packing, *more = (options,) if isinstance(options, str) else options
        if packing not in _OTHER_BYTES:
            return None
        if low is None:
            again = io.BytesIO(stream.getvalue()) if isinstance(stream, io.BytesIO) else open_regular(stream.name)
            low = FORMATS[kind](stack.enter_context(again), "")
        other = _OTHER_BYTES[packing]
        low.tile[index] = type(tile)(*rest, (other, *more) if more else other)
    return low


def _gif_frames(picture: Opened) -> int:
    """How many frames Pillow finds, and the picture as before: what lies behind the first may be damaged."""
    try:
        with decoding(picture):
            frames: int = picture.image.n_frames
    except ReadError:
        frames = 1
        picture.notes.append(f"{picture.name} is damaged behind its first frame, which alone is read")
    with decoding(picture):
        picture.image.seek(0)
    return frames


def check_size(size: tuple[int, int], name: object, max_pixels: int, length: int | None = None) -> None:
    """Raise ``ReadError`` unless a picture of (width, height) has 1 to ``max_pixels`` pixels.

    With ``length``, the bytes of its file, also unless they can hold so many, or ``max_pixels`` is above the default.
    """
    width, height = size
    if width < 1 or height < 1:
        raise ReadError(f"{name} has no pixels ({width}x{height}): export it again")
    if width * height > max_pixels:
        raise ReadError(
            f"{name} has {width * height} pixels, more than the limit of {max_pixels}: "
            "if you trust it, raise max_pixels (--max-pixels)"
        )
    if length is None or max_pixels > DEFAULT_MAX_PIXELS:
        return
    if width * height > max(ALWAYS_READ, PIXELS_A_BYTE * length):
        raise ReadError(
            f"{name} announces {width * height} pixels in {length} bytes, as a decompression bomb does: "
            f"if you trust it, set max_pixels (--max-pixels) above {DEFAULT_MAX_PIXELS}"
        )


def _stream(source: PictureSource, stack: ExitStack) -> tuple[IO[bytes], object]:
    """A seekable binary stream at its start, and a name for messages."""
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source), "the image data"
    if isinstance(source, str | os.PathLike):
        return stack.enter_context(open_regular(source)), os.fspath(source)
    if not hasattr(source, "read"):
        raise ValueError(f"source is a {type(source).__name__}: give a path, bytes, a binary file or a PIL image")
    name = source.name if isinstance(getattr(source, "name", None), str) else "the image data"
    if hasattr(source, "seekable") and source.seekable():
        source.seek(0)
    data = source.read()
    if isinstance(data, str):
        raise ValueError(f"{name} is opened as text: open it in binary mode ('rb')")
    return io.BytesIO(data), name


def _format_of(head: bytes, called: object, name: object, formats: Collection[str]) -> str:
    """The format that begins with the bytes ``head``, in the file ``called``. Raises ``ReadError`` for none of
    ``formats``."""
    if not head:
        raise ReadError(f"{name} is empty (0 bytes): save or download it again")
    kind = picture_format(head) or ("TGA" if is_targa(head, called) else None)
    if kind is not None and kind in formats and not is_raw(name):
        return kind
    raise ReadError(f"{name} {foreign(head, name)}")
