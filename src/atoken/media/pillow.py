"""What Pillow pictures mean: modes, profiles, transparency, orientation, and Pillow's limit. Pillow and numpy only.

Pillow guards against decompression bombs with one process-wide number, `PIL.Image.MAX_IMAGE_PIXELS`. Our readers check
their own limit on the size in the header, before pixels are decoded. So that Pillow's guard never steps in below that
limit, its number is raised, never lowered, while a picture above it is read: reads in many threads share the highest
number wanted, and the last to finish restores the old one.
"""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image, ImageCms

_ORIENTATION, _BITS_PER_SAMPLE, _PHOTOMETRIC = 0x0112, 258, 262  # EXIF and TIFF tags


class _PillowLimit:
    """Pillow's process-wide limit, raised to the highest of the reads that need it, restored after the last."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.wanted: list[int] = []
        self.original = self.current = Image.MAX_IMAGE_PIXELS

    @contextmanager
    def at_least(self, pixels: int) -> Iterator[None]:
        with self.lock:
            self.wanted.append(pixels)
            self._apply()
        try:
            yield
        finally:
            with self.lock:
                self.wanted.remove(pixels)
                self._apply()

    def _apply(self) -> None:
        if self.current != Image.MAX_IMAGE_PIXELS:  # the program itself has set another one
            self.original = Image.MAX_IMAGE_PIXELS
        self.current = None if self.original is None else max([self.original, *self.wanted])
        Image.MAX_IMAGE_PIXELS = self.current


pillow_limit = _PillowLimit()


def load_picture(image: Image.Image) -> Image.Image:
    """Decode, and return a picture whose transparent colour is in the units of its pixels."""
    key: Any = image.info.get("transparency")
    tiles = getattr(image, "tile", None)
    packing = tiles[0][3] if image.format == "PNG" and tiles and key is not None else None
    image.load()
    # Pillow widens 2- and 4-bit grey and narrows 16-bit RGB, but leaves tRNS in the units of the file
    if packing in ("L;2", "L;4"):
        key = key * {"L;2": 85, "L;4": 17}[packing]
    elif packing == "RGB;16B":
        key = tuple(value >> 8 for value in key)
    else:
        return image
    image = image.copy()
    image.info["transparency"] = key
    return image


def orientation_of(image: Image.Image, name: str, notes: list[str]) -> int:
    """Return the EXIF orientation 1..8 still to be applied (Pillow itself turns a TIFF)."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # the parser of a broken block raises nearly every class there is
        notes.append(f"{name} has a broken EXIF block: its orientation is not applied.")
        return 1
    return value if value in range(1, 9) else 1


def upright(rgb: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation 1..8 to (H, W, 3); the result is contiguous."""
    if orientation >= 5:
        rgb = rgb.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    return np.ascontiguousarray(rgb)


def refuse_unknown_range(image: Image.Image, name: str) -> None:
    """Raise ValueError for a picture of floating-point values or 32-bit integers."""
    if image.mode in ("F", "I"):
        kind = "floating-point" if image.mode == "F" else "32-bit"
        raise ValueError(f"{name} holds {kind} values of unknown range: pass an array with value_range=.")


def rgb_and_alpha(image: Image.Image, name: str, notes: list[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Convert a loaded picture to sRGB, through its ICC profile where it has one.

    Args:
        image: Any mode but F and I. Orientation is not considered.
        name: Of the picture, for `notes`.
        notes: Receives one sentence if the ICC profile cannot be used.

    Returns:
        (H, W, 3) uint8 sRGB, writable, and (H, W) uint8 alpha, or None where the mode has no transparency.
    """
    colour, alpha = _grey_of_integers(image) if image.mode.startswith("I") else _split_alpha(image)
    profile = image.info.get("icc_profile")
    if profile:
        try:
            return np.array(_through_profile(colour, profile)), alpha
        except Exception as error:  # a mismatch, or any class that a broken profile makes Pillow raise
            notes.append(f"{name} has an unusable ICC profile ({error}): its colours are taken as sRGB.")
    return np.array(colour.convert("RGB")), alpha


def blend(rgb: np.ndarray, alpha: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    """Blend (H, W, 3) uint8 over a colour by (H, W) uint8 alpha, rounding to nearest."""
    weight = alpha[..., None].astype(np.uint16)
    mixed = rgb * weight + np.array(background, np.uint16) * (255 - weight)  # at most 255 * 255: fits, with 127 more
    return ((mixed + 127) // 255).astype(np.uint8)


def _grey_of_integers(image: Image.Image) -> tuple[Image.Image, np.ndarray | None]:
    """Scale mode I;16 (any byte order) to mode L; alpha where one value is transparent."""
    values = np.asarray(image).astype(np.uint32)
    key = image.info.get("transparency")
    alpha = np.where(values == key, 0, 255).astype(np.uint8) if isinstance(key, int) else None
    tags = getattr(image, "tag_v2", {})
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


def _through_profile(image: Image.Image, profile: bytes) -> Image.Image:
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = opened.profile.xcolor_space.strip()
    if image.mode == "L" and space == "RGB":
        image = image.convert("RGB")
    if {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK", "Lab": "LAB"}.get(space) != image.mode:
        raise ValueError(f"it is for {space}, the picture is {image.mode}")
    converted = ImageCms.profileToProfile(
        image,
        opened,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert converted is not None  # None is for inPlace=True
    return converted
