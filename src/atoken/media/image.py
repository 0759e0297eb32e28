"""Still pictures: any common file → uint8 sRGB array, and back to a file.

Needs Pillow and numpy only. Shapes: H rows, W columns, 3 channels in the order red, green, blue.
"""

import errno
import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any

import numpy as np
from PIL import Image

from ..files import atomic_write
from .kinds import ARCHIVES
from .pillow import (
    blend,
    load_picture,
    orientation_of,
    pillow_limit,
    refuse_unknown_range,
    rgb_and_alpha,
    upright,
)

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif"})
"""Lower-case suffixes of the files `read_image` reads; the format itself is recognised by content."""

DEFAULT_MAX_PIXELS = 178_956_970
"""Most pixels read by default (about 13,377 squared): where Pillow itself refuses, half a gigabyte as RGB."""

_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")

ImageSource = str | os.PathLike[str] | bytes | IO[bytes] | Image.Image


def read_image(
    source: ImageSource,
    *,
    background: tuple[int, int, int] = (255, 255, 255),
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> np.ndarray:
    """Read one picture as it is meant to be seen.

    The EXIF orientation is applied. An embedded ICC profile is converted to sRGB (relative colorimetric, black point
    compensated); a profile that is broken, or is for another kind of picture, is announced by a warning and the
    values are taken as sRGB. Other colour tags (PNG gAMA and cHRM, AVIF nclx) are ignored. CMYK without a profile
    becomes (255 - ink) * (255 - black) / 255. Transparency is blended over `background` on sRGB values.

    Greyscale of 16 (TIFF: also 12) bits is scaled to 8 by rounding. From RGB of 16 bits Pillow keeps the upper byte:
    v >> 8, up to one level below rounding.

    Animations, multi-page TIFF and MPO: only the first frame is read, and a warning says how many are left out.

    Args:
        source: A path, the bytes of a file, a binary file object (read from its start, left open), or a PIL image
            (taken at the frame where it stands, without the warning about frames; it is not changed).
        background: sRGB colour behind transparent pixels, three integers in 0..255.
        max_pixels: Most pixels (width * height) that are decoded; checked on the header. Safe to use from many threads,
            see `atoken.media.pillow` for what happens to Pillow's own limit.

    Returns:
        (H, W, 3) uint8, sRGB, 0..255, C-contiguous and writable.

    Raises:
        FileNotFoundError, IsADirectoryError, PermissionError: From opening the path.
        ValueError: The picture is empty, truncated, damaged, not an image, larger than `max_pixels`, without pixels
            or of floating-point or 32-bit values, whose range is unknown; or an argument is out of range.
    """
    if len(background) != 3 or any(int(v) != v or not 0 <= v <= 255 for v in background):
        raise ValueError(f"background is {background!r}: give three integers in 0..255.")
    if max_pixels < 1:
        raise ValueError(f"max_pixels is {max_pixels}: give a positive number of pixels.")
    notes: list[str] = []
    with ExitStack() as stack:
        image, name, frames = _open(source, max_pixels, stack)
        sentence = f"{name} is truncated or damaged: download or export it again."
        with _faults_of_file(sentence):
            image = load_picture(image)
            orientation = orientation_of(image, name, notes)
        refuse_unknown_range(image, name)
        with _faults_of_file(sentence):
            rgb, alpha = rgb_and_alpha(image, name, notes)
    if frames > 1:
        notes.append(f"{name} holds {frames} frames: only the first is read, {frames - 1} left out.")
    for note in notes:
        warnings.warn(note, stacklevel=2)
    if alpha is not None:
        rgb = blend(rgb, alpha, background)
    return upright(rgb, orientation)


def write_image(path: str | os.PathLike[str], array: np.ndarray, *, quality: int | None = None) -> None:
    """Write a picture in the format its suffix names, all or nothing (see `atoken.files.atomic_write`).

    PNG, TIFF and BMP are lossless. JPEG has quality 95 by default, AVIF 90, both without chroma subsampling (4:4:4).
    WebP is lossless unless a `quality` is given. No profile is embedded: untagged files are read as sRGB.

    Args:
        path: Ends in .png, .jpg, .jpeg, .jfif, .webp, .avif, .tif, .tiff or .bmp (any case). Missing parent folders
            are created.
        array: (H, W, 3) uint8, sRGB, 0..255.
        quality: 1..100 for JPEG, WebP and AVIF; the other formats take none.

    Raises:
        ValueError: The suffix, the array or the quality is not one of these, or the picture is too large for the
            format.
        OSError: The file cannot be written; the error names `path`, and a file already there is untouched.
    """
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix not in _WRITERS:
        raise ValueError(f"{path} has no suffix of a writable format: use one of {', '.join(_WRITERS)}.")
    kind, largest_side, options = _WRITERS[suffix]
    _check_array(array)
    if max(array.shape[:2]) > largest_side:
        height, width, _ = array.shape
        raise ValueError(f"{path}: {kind} holds at most {largest_side} pixels a side, not {width}x{height}: use .png.")
    if quality is not None:
        if kind not in ("JPEG", "WEBP", "AVIF"):
            raise ValueError(f"quality has no meaning for {suffix}: leave it out, or use .jpg, .webp or .avif.")
        if isinstance(quality, bool) or not isinstance(quality, int) or not 1 <= quality <= 100:
            raise ValueError(f"quality is {quality!r}: give an integer in 1..100.")
        options = {**options, "quality": quality, "lossless": False}

    encoded = io.BytesIO()  # in memory, so that an error of the disk is never mistaken for one of the encoder
    Image.fromarray(np.ascontiguousarray(array)).save(encoded, format=kind, **options)
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded.getbuffer())


_JPEG: tuple[str, int, dict[str, Any]] = ("JPEG", 65_500, {"quality": 95, "subsampling": "4:4:4"})
_TIFF: tuple[str, int, dict[str, Any]] = ("TIFF", 2**31 - 1, {"compression": "tiff_adobe_deflate"})
_WRITERS: dict[str, tuple[str, int, dict[str, Any]]] = {  # suffix: format, largest side, options of the encoder
    ".png": ("PNG", 2**31 - 1, {}),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".jfif": _JPEG,
    ".webp": ("WEBP", 16_383, {"lossless": True}),
    ".avif": ("AVIF", 65_536, {"quality": 90, "subsampling": "4:4:4"}),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": ("BMP", 2**31 - 1, {}),
}


def _check_array(array: np.ndarray) -> None:
    """Raise ValueError unless `array` is (H, W, 3) uint8 with at least one pixel."""
    if not isinstance(array, np.ndarray):
        raise ValueError(f"array is a {type(array).__name__}: give a NumPy array of shape (H, W, 3) and dtype uint8.")
    if array.dtype != np.uint8:
        raise ValueError(f"array has dtype {array.dtype}: convert it to uint8 with values in 0..255.")
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ValueError(f"array has shape {array.shape}: give (H, W, 3), RGB, with at least one pixel.")


def _open(source: ImageSource, max_pixels: int, stack: ExitStack) -> tuple[Image.Image, str, int]:
    """Return the picture, not yet decoded, a name for messages and the number of frames."""
    if isinstance(source, Image.Image):
        name = str(getattr(source, "filename", "")) or "the image"
        _admit(source.size, name, max_pixels, stack)
        return source, name, 1

    stream, name = _stream(source, stack)
    head = stream.read(16)
    if not head:
        raise ValueError(f"{name} is empty (0 bytes): save or download it again.")
    kind = _format_of(head, name)
    if kind == "GIF":  # asks Pillow's guard, which warns, while it reads the header
        stack.enter_context(pillow_limit.at_least(max_pixels))
    elif kind == "WEBP":  # likewise, but minds only twice the number
        stack.enter_context(pillow_limit.at_least((max_pixels + 1) // 2))
    stream.seek(0)
    sentence = f"{name} begins like {kind} but is truncated, damaged or of an unsupported kind: export it again as PNG."
    try:
        with _faults_of_file(sentence):
            image = Image.OPEN[kind][0](stream, "")
            frames = getattr(image, "n_frames", 1)  # GIF and TIFF move through the file to count: before load()
    except ValueError as error:
        reason = error.__cause__
        if isinstance(reason, Image.DecompressionBombError):  # its text is the only place that has the number
            raise _too_large(name, int(re.findall(r"\d+", str(reason))[0]), max_pixels) from reason
        if isinstance(reason, SyntaxError) and "not identified" in str(reason):
            raise ValueError(f"{name} has no pixels (width or height is zero): export it again.") from reason
        raise
    _admit(image.size, name, max_pixels, stack)
    return image, name, frames


def _stream(source: str | os.PathLike[str] | bytes | IO[bytes], stack: ExitStack) -> tuple[IO[bytes], str]:
    """Return a seekable binary stream at its start, and a name for messages."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source), "the image data"
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        file = stack.enter_context(open(source, "rb"))  # noqa: SIM115
        return (file if file.seekable() else io.BytesIO(file.read())), str(name)
    if not hasattr(source, "read"):
        raise ValueError(f"source is a {type(source).__name__}: give a path, bytes, a binary file or a PIL image.")
    name = source.name if isinstance(getattr(source, "name", None), str) else "the image data"
    if hasattr(source, "seekable") and source.seekable():
        source.seek(0)
    data = source.read()
    if isinstance(data, str):
        raise ValueError(f"{name} is opened as text: open it in binary mode ('rb').")
    return io.BytesIO(data), name


def _format_of(head: bytes, name: str) -> str:
    """Return Pillow's name of the format that begins with the 16 bytes `head`."""
    if head.startswith(ARCHIVES):
        raise ValueError(f"{name} is an archive: unpack it and give the files inside")
    Image.init()
    for kind in _FORMATS:
        accept = Image.OPEN[kind][1]
        accepted = accept is None or accept(head)
        if isinstance(accepted, str):  # Pillow's reason why it cannot
            raise ValueError(f"{name} is {kind}, which this Pillow was built without: convert it to PNG.")
        if accepted:
            return kind
    raise ValueError(f"{name} is not a JPEG, PNG, WebP, AVIF, TIFF, BMP or GIF image: convert it to PNG.")


def _admit(size: tuple[int, int], name: str, max_pixels: int, stack: ExitStack) -> None:
    """Raise ValueError unless 1..max_pixels pixels; keep Pillow's own guard from stepping in below that."""
    width, height = size
    if width < 1 or height < 1:
        raise ValueError(f"{name} has no pixels ({width}x{height}): export it again.")
    if width * height > max_pixels:
        raise _too_large(name, width * height, max_pixels)
    stack.enter_context(pillow_limit.at_least(width * height))


def _too_large(name: str, pixels: int, max_pixels: int) -> ValueError:
    return ValueError(
        f"{name} has {pixels} pixels, more than the limit of {max_pixels}: "
        "if you trust it, raise max_pixels (--max-pixels)."
    )


@contextmanager
def _faults_of_file(sentence: str) -> Iterator[None]:
    """Turn whatever Pillow raises about the content of a file into ValueError(sentence)."""
    try:
        yield
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # EINVAL: a damaged header pointed outside the file
            raise
        raise ValueError(sentence) from error
    except Exception as error:  # decoders raise nearly every class there is
        raise ValueError(sentence) from error
