"""What Pillow's pictures mean: modes, profiles, transparency and orientation, worked out a band of rows at a time.

So a picture needs what its decoder needs, then Pillow's own 1 to 4 bytes a pixel beside the 3 or 4 of the result.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageFile

from ...core.errors import ReadError
from ...core.text import shortened
from .tags import Colours

_ORIENTATION, _BITS_PER_SAMPLE, _PHOTOMETRIC = 0x0112, 258, 262  # EXIF and TIFF tags
XMP = ("xmp", "XML:com.adobe.xmp")
"""Keys of ``info`` where Pillow also looks for an orientation, and browsers do not."""
_BAND = 2**16
"""Pixels of a band, about."""

Box = tuple[int, int, int, int]


def rgb_of(
    image: Image.Image,
    name: object,
    notes: list[str],
    background: tuple[int, int, int],
    colours: Colours | None = None,
    turned: bool = False,
    low: Image.Image | None = None,
) -> np.ndarray:
    """Decode a picture: (H, W, 3) uint8 sRGB, upright, transparency blended over ``background`` on sRGB values.

    Args:
        image: Open; not changed, but for its being decoded.
        name: Of the picture, for messages.
        notes: Receives sentences about what is peculiar, which begin with ``name``.
        background: sRGB, 0...255.
        colours: What its values mean where no ICC profile says so; None for sRGB.
        turned: The decoder itself applies the orientation, whatever EXIF says.
        low: The same with the lower bytes of 16-bit colours, where ``image`` has the upper ones.

    Raises:
        ReadError: The values are floating-point, signed or of 32 bits, whose range is unknown.
    """
    drawn = _drawn(image)
    image = _loaded(image, low)
    orientation = 1 if turned else orientation_of(image, name, notes)  # after decoding, for Pillow turns a TIFF by it
    result, stored = upright_canvas(image.size, 3, orientation)
    hidden = True
    for rows, rgb, alpha in _bands(image, low, drawn, name, notes, colours):
        stored[rows] = rgb if alpha is None else blend(rgb, alpha, background)
        hidden = hidden and alpha is not None and not alpha.any()
    if hidden:
        notes.append(f"{name} is wholly transparent: only the background is seen")
    return result


def rgba_of(
    image: Image.Image,
    name: object,
    notes: list[str],
    colours: Colours | None = None,
    low: Image.Image | None = None,
) -> np.ndarray:
    """``rgb_of`` as it is stored, not blended: (H, W, 4) uint8, sRGB and straight alpha."""
    drawn = _drawn(image)
    image = _loaded(image, low)
    result, _ = upright_canvas(image.size, 4)
    for rows, rgb, alpha in _bands(image, low, drawn, name, notes, colours):
        result[rows, :, :3] = rgb
        result[rows, :, 3] = 255 if alpha is None else alpha
    return result


def upright_canvas(size: tuple[int, int], channels: int, orientation: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Room for the upright picture, uint8, and the same memory in the order of the file, (height, width, channels)."""
    width, height = size
    result = np.empty((width, height, channels) if orientation >= 5 else (height, width, channels), np.uint8)
    stored = result
    if orientation in (3, 4, 7, 8):
        stored = stored[::-1]
    if orientation in (2, 3, 6, 7):
        stored = stored[:, ::-1]
    return result, stored.swapaxes(0, 1) if orientation >= 5 else stored


def _bands(
    image: Image.Image,
    low: Image.Image | None,
    drawn: Box | None,
    name: object,
    notes: list[str],
    colours: Colours | None,
) -> Iterator[tuple[slice, np.ndarray, np.ndarray | None]]:
    """Rows, their (h, W, 3) uint8 sRGB, and their (h, W) uint8 alpha, None where the mode has no transparency."""
    if image.mode in ("F", "I"):
        kind = "floating-point" if image.mode == "F" else "signed or 32-bit"
        raise ReadError(f"{name} holds {kind} values of unknown range: pass an array with value_range=")
    # Windows and browsers show the colours of a BMP whose alpha was never filled in, and others those of a TGA
    opaque = image.format in ("BMP", "TGA") and image.mode == "RGBA" and image.getbbox() is None
    tags = getattr(image, "tag_v2", {})
    to_srgb: Callable[[Image.Image], Image.Image] | None = None
    width, height = image.size
    step = max(1, _BAND // width)
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        box = (0, top, width, rows.stop)
        band = image.crop(box) if low is None else _rounded(image.crop(box), low.crop(box))
        colour, alpha = _grey_of_integers(band, tags) if image.mode.startswith("I") else _split_alpha(band)
        if to_srgb is None:
            to_srgb, profiled = _conversion(colour.mode, image.info.get("icc_profile"), name, notes)
        rgb = np.asarray(to_srgb(colour))
        if colours is not None and not profiled:
            rgb = colours.converted(rgb)
        if drawn is not None:
            alpha = _outside(drawn, rows, width, alpha)
        yield rows, rgb, None if opaque else alpha


def _drawn(image: Image.Image) -> Box | None:
    """The part of a GIF's screen that its first picture covers, None for all; Pillow fills the rest with entry 0."""
    if image.format != "GIF" or not isinstance(image, ImageFile.ImageFile) or not image.tile:
        return None
    box = image.tile[0][1]
    return None if box == (0, 0, *image.size) else box


def _outside(box: Box, rows: slice, width: int, alpha: np.ndarray | None) -> np.ndarray:
    """The alpha of these rows with nothing outside of ``box``."""
    inside = np.zeros((rows.stop - rows.start, width), np.uint8)
    inside[max(0, box[1] - rows.start) : max(0, box[3] - rows.start), box[0] : box[2]] = 255
    return inside if alpha is None else np.minimum(alpha, inside)


def _rounded(high: Image.Image, low: Image.Image) -> Image.Image:
    """Colours of 16 bits, given as upper and lower bytes, rounded to 8: v / 257, where v = 257 high + (low - high)."""
    upper = np.asarray(high).astype(np.int16)
    rest = np.asarray(low) - upper
    values = upper + (rest > 128) - (rest < -128)
    image = Image.frombytes(high.mode, high.size, values.astype(np.uint8).tobytes())
    image.info = high.info
    return image


def _loaded(image: Image.Image, low: Image.Image | None = None) -> Image.Image:
    """Decode, and return a picture whose transparent colour is in the units of its pixels."""
    key: Any = image.info.get("transparency")
    tiles = getattr(image, "tile", None)
    packing = tiles[0][3] if image.format == "PNG" and tiles and key is not None else None
    image.load()
    if low is not None:
        low.load()
    # Pillow widens 2- and 4-bit grey and narrows 16-bit RGB, but leaves tRNS in the units of the file
    if packing in ("L;2", "L;4"):
        key = key * {"L;2": 85, "L;4": 17}[packing]
    elif packing == "RGB;16B":
        key = tuple(value >> 8 if low is None else (value + 128) // 257 for value in key)
    else:
        return image
    image = image.copy()
    image.info["transparency"] = key
    return image


def orientation_of(image: Image.Image, name: object, notes: list[str]) -> int:
    """The EXIF orientation 1...8 still to be applied (Pillow itself turns a TIFF); that of XMP alone does not count."""
    hidden = {key: image.info.pop(key) for key in XMP if key in image.info}
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # the parser of a broken block raises nearly every class there is
        notes.append(f"{name} has a broken EXIF block: its orientation is not applied")
        return 1
    finally:
        image.info.update(hidden)
    return value if value in range(1, 9) else 1


def blend(rgb: np.ndarray, alpha: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    """Blend (H, W, 3) uint8 over a colour by (H, W) uint8 alpha, rounding to nearest."""
    weight = alpha[..., None].astype(np.uint16)
    mixed = rgb * weight + np.array(background, np.uint16) * (255 - weight)  # at most 255 * 255: fits, with 127 more
    return ((mixed + 127) // 255).astype(np.uint8)


def _grey_of_integers(image: Image.Image, tags: Any) -> tuple[Image.Image, np.ndarray | None]:
    """Scale mode I;16 (any byte order) to mode L; alpha where one value is transparent. ``tags`` are those of TIFF."""
    values = np.asarray(image).astype(np.uint32)
    key = image.info.get("transparency")
    alpha = np.where(values == key, 0, 255).astype(np.uint8) if isinstance(key, int) else None
    top = 4095 if tags.get(_BITS_PER_SAMPLE) == (12,) else 65_535
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero, which Pillow turns round for 8 bits only
        values = top - values
    return Image.fromarray(((values * 255 + top // 2) // top).astype(np.uint8)), alpha


def _split_alpha(image: Image.Image) -> tuple[Image.Image, np.ndarray | None]:
    """Return the picture in mode L, RGB, CMYK or LAB, and its (H, W) uint8 alpha where it has one."""
    mode = image.mode
    alpha = None
    if mode == "La":  # Pillow has no direct way from here to RGBA
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"))
    if mode in ("1", "L", "LA", "La"):
        image = image.convert("L")  # keeps a profile for grey usable
    elif mode not in ("RGB", "CMYK", "LAB") or image.mode == "RGBA":
        image = image.convert("RGB")
    return image, alpha


def _conversion(
    mode: str, profile: bytes | None, name: object, notes: list[str]
) -> tuple[Callable[[Image.Image], Image.Image], bool]:
    """From a picture of this mode to sRGB in mode RGB, and whether that goes by the profile."""
    if profile:
        try:
            return _by_profile(mode, profile), True
        except Exception as error:  # a mismatch, or any class that a broken profile makes Pillow raise
            reason = shortened(error)
            notes.append(f"{name} has an unusable ICC profile ({reason}): its colours are taken as sRGB")
    return (lambda image: image.convert("RGB")), False


def _by_profile(mode: str, profile: bytes) -> Callable[[Image.Image], Image.Image]:
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = opened.profile.xcolor_space.strip()
    taken = "RGB" if mode == "L" and space == "RGB" else mode
    if {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK", "Lab": "LAB"}.get(space) != taken:
        raise ValueError(f"it is for {space}, the picture is {taken}")
    transform = ImageCms.buildTransform(
        opened,
        ImageCms.createProfile("sRGB"),
        taken,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )

    def convert(image: Image.Image) -> Image.Image:
        result = transform.apply(image if image.mode == taken else image.convert(taken))
        assert result is not None
        return result

    return convert
