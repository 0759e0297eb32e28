"""Colour tags without a profile: converted where that is exact, else named; by the formulas of H.273 and sRGB."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from atoken.media.image.files import read_image
from atoken.media.image.tags import of_boxes

SHADES = np.array([[[200, 50, 50], [10, 10, 10], [128, 128, 128], [255, 255, 255], [0, 0, 0], [90, 160, 60]]], np.uint8)
P3_TO_SRGB = np.array([[1.22494, -0.22494, 0], [-0.042057, 1.042057, 0], [-0.019638, -0.078636, 1.098274]])
BT2020_TO_SRGB = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
CHRM_P3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
CHRM_SRGB = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


def tagged(*chunks: tuple[bytes, bytes]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(SHADES).save(buffer, "PNG")
    data = buffer.getvalue()
    extra = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return data[:33] + extra + data[33:]


def gamma(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(value * 100_000))


def cicp(primaries: int, transfer: int) -> tuple[bytes, bytes]:
    return b"cICP", bytes([primaries, transfer, 0, 1])


def srgb(light: np.ndarray) -> np.ndarray:
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def linear(shades: np.ndarray) -> np.ndarray:
    return np.where(shades <= 0.04045 * 255, shades / 255 / 12.92, ((shades / 255 + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([cicp(12, 13)], srgb(linear(SHADES) @ P3_TO_SRGB.T)),
        ([cicp(9, 14)], srgb(linear(SHADES) @ BT2020_TO_SRGB.T)),
        ([cicp(1, 8)], srgb(SHADES / 255)),
        ([cicp(1, 4)], srgb((SHADES / 255) ** 2.2)),
        ([cicp(1, 1)], SHADES),
        ([cicp(2, 2)], SHADES),
        ([gamma(1)], srgb(SHADES / 255)),
        ([gamma(1 / 1.8)], srgb((SHADES / 255) ** 1.8)),
        ([gamma(0.45455), (b"cHRM", CHRM_SRGB)], SHADES),  # what most programs write and mean sRGB by
        ([gamma(0.45455), (b"cHRM", CHRM_P3)], srgb(linear(SHADES) @ P3_TO_SRGB.T)),
        ([cicp(12, 13), (b"sRGB", b"\0"), gamma(1)], srgb(linear(SHADES) @ P3_TO_SRGB.T)),  # the first of these counts
        ([(b"sRGB", b"\0"), gamma(1)], SHADES),
    ],
)
def test_tags_that_are_converted(chunks, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.abs(read_image(tagged(*chunks)) - expected).max() <= 0.6


@pytest.mark.parametrize(
    ("chunks", "named"),
    [
        ([cicp(9, 16)], "PQ"),
        ([cicp(9, 18)], "HLG"),
        ([cicp(22, 13)], "primaries 22"),
        ([cicp(1, 17)], "characteristics 17"),
        ([gamma(0)], "gAMA"),
        ([gamma(1), (b"cHRM", bytes(32))], "cHRM"),
        ([gamma(1), (b"cHRM", CHRM_P3[:8] * 4)], "cHRM"),
    ],
)
def test_tags_that_are_only_named(chunks, named):
    with pytest.warns(UserWarning, match=f"the image data .*{named}"):
        assert np.array_equal(read_image(tagged(*chunks)), SHADES)


def test_a_profile_counts_before_the_tags_but_not_before_cicp():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    chunk = b"iCCP", b"x\0\0" + zlib.compress(profile)
    assert np.array_equal(read_image(tagged(chunk, (b"sRGB", b"\0"), gamma(1))), SHADES)
    expected = srgb(linear(SHADES) @ P3_TO_SRGB.T)
    for chunks in ((chunk, cicp(12, 13)), (cicp(12, 13), chunk)):
        assert np.abs(read_image(tagged(*chunks)) - expected).max() <= 0.6


def test_a_narrow_range_is_said_so():
    with pytest.warns(UserWarning, match="the image data .*narrow range"):
        assert np.array_equal(read_image(tagged((b"cICP", bytes([1, 13, 0, 0])))), SHADES)


def avif(primaries: int, transfer: int, brand: bytes = b"avif") -> bytes:
    """An AVIF of Pillow with other code points in its nclx box."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 50, 50)).save(buffer, "AVIF", quality=100, subsampling="4:4:4")
    data = buffer.getvalue()
    at = data.index(b"nclx") + 4
    return data[:8] + brand + data[12:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


@pytest.mark.parametrize("brand", [b"avif", b"mif1"])
def test_nclx_of_avif(brand):
    plain = read_image(avif(1, 13, brand))[0, 0].astype(int)
    assert np.abs(plain - (200, 50, 50)).max() <= 2
    expected = srgb(linear(plain) @ P3_TO_SRGB.T)
    assert np.abs(read_image(avif(12, 13, brand))[0, 0] - expected).max() <= 1
    with pytest.warns(UserWarning, match="the image data .*HLG"):
        assert np.abs(read_image(avif(9, 18, brand))[0, 0] - plain).max() <= 1


def test_boxes_that_lie_end_quietly():
    for data in (b"", b"\0\0\0\4meta", struct.pack(">I4sQ", 1, b"meta", 2**63), struct.pack(">I4s", 0, b"meta") * 50):
        assert of_boxes(io.BytesIO(data)) == (None, None)
