"""Still pictures: any common file → uint8 sRGB array, and back to a file.

Needs Pillow and numpy only. Shapes: H rows, W columns, 3 channels in the order red, green, blue.
"""

import io
import os
import warnings
from typing import IO, Any

import numpy as np
from PIL import Image

from ...core.errors import reading
from ...core.files import atomic_write
from .opener import DEFAULT_MAX_PIXELS as DEFAULT_MAX_PIXELS
from .opener import PictureSource, check_size, decoding, opened
from .pillow import rgb_of, rgba_of

ImageSource = str | os.PathLike[str] | bytes | IO[bytes] | Image.Image


def read_image(
    source: ImageSource,
    *,
    name: object = None,
    background: tuple[int, int, int] = (255, 255, 255),
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> np.ndarray:
    """Read one picture as it is meant to be seen; docs/pictures.md has all that is done.

    The EXIF orientation is applied. An embedded ICC profile is converted to sRGB (relative colorimetric, black point
    compensated), and so are wide-gamut and gamma tags without one (PNG cICP, gAMA and cHRM, AVIF and HEIC nclx). HDR
    and whatever cannot be used is announced by a warning, and the values are taken as sRGB. CMYK without a profile
    becomes (255 - ink) * (255 - black) / 255. Transparency is blended over `background` on sRGB values.

    Values of 16 (TIFF: also 12) bits are scaled to 8 by rounding; but Pillow keeps the upper byte (v >> 8, up to one
    level below rounding) of a TIFF in planes or with multiplied alpha, of a PNG of grey and alpha, and in a PIL image.

    Animations, multi-page TIFF and MPO: only the first frame is read, and a warning says how many are left out.

    Args:
        source: A path, the bytes of a file, a binary file object (read from its start, left open), or a PIL image
            (taken at the frame where it stands, without the warning about frames and without other colour tags than an
            ICC profile; it is not changed).
        name: What messages call it; the path, or "the image data", by default.
        background: sRGB colour behind transparent pixels, three integers in 0..255.
        max_pixels: Most pixels (width * height) that are decoded; checked on the header.

    Returns:
        (H, W, 3) uint8, sRGB, 0..255, C-contiguous and writable.

    Raises:
        FileNotFoundError, IsADirectoryError, PermissionError: From opening the path.
        ReadError: A ValueError: the picture is empty, truncated, damaged, not an image, larger than `max_pixels`,
            without pixels or of values whose range is unknown (floating-point, signed, 32 bits).
        ValueError: An argument is out of range.
    """
    if len(background) != 3 or any(int(v) != v or not 0 <= v <= 255 for v in background):
        raise ValueError(f"background is {background!r}: give three integers in 0..255")
    if max_pixels < 1:
        raise ValueError(f"max_pixels is {max_pixels}: give a positive number of pixels")

    notes: list[str] = []
    if isinstance(source, Image.Image):
        name = name or getattr(source, "filename", "") or "the image"
        check_size(source.size, name, max_pixels)
        with reading(name):
            rgb = rgb_of(source, name, notes, background)
    else:
        with opened(source, name=name, max_pixels=max_pixels) as picture, decoding(picture):
            notes += picture.notes
            turned = picture.kind in ("HEIC", "JXL")
            rgb = rgb_of(picture.image, picture.name, notes, background, picture.colours, turned, picture.low)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return rgb


def read_rgba(source: PictureSource, *, name: object = None, max_pixels: int = DEFAULT_MAX_PIXELS) -> np.ndarray:
    """``read_image`` for textures: colours and alpha as they are stored, neither blended nor turned by EXIF.

    Returns:
        (H, W, 4) uint8, sRGB with straight alpha, 255 where the picture has none.

    Raises and warns as ``read_image``.
    """
    notes: list[str] = []
    with opened(source, name=name, max_pixels=max_pixels) as picture, decoding(picture):
        notes += picture.notes
        rgba = rgba_of(picture.image, picture.name, notes, picture.colours, picture.low)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return rgba


def write_image(path: str | os.PathLike[str], array: np.ndarray, *, quality: int | None = None) -> None:
    """Write a picture in the format its suffix names, all or nothing (see `atoken.core.files.atomic_write`).

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
WRITABLE_SUFFIXES = frozenset(_WRITERS)
"""Lower-case suffixes of the files `write_image` writes."""


def _check_array(array: np.ndarray) -> None:
    """Raise ValueError unless `array` is (H, W, 3) uint8 with at least one pixel."""
    if not isinstance(array, np.ndarray):
        raise ValueError(f"array is a {type(array).__name__}: give a NumPy array of shape (H, W, 3) and dtype uint8.")
    if array.dtype != np.uint8:
        raise ValueError(f"array has dtype {array.dtype}: convert it to uint8 with values in 0..255.")
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ValueError(f"array has shape {array.shape}: give (H, W, 3), RGB, with at least one pixel.")
