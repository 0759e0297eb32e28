"""TIFF by TIFF: every layout that people's programs write is read right or refused, never wrong without a word."""

import contextlib
import io
import struct
from itertools import product

import numpy as np
import pytest

from atoken.core.errors import ReadError
from atoken.media.image.files import read_image
from refusals import refused

tifffile = pytest.importorskip("tifffile")
HEIGHT, WIDTH = 50, 70
KINDS = {  # samples, photometric, what the fourth is
    "grey": (1, "minisblack", None),
    "white is zero": (1, "miniswhite", None),
    "grey and straight alpha": (2, "minisblack", "unassalpha"),
    "grey and multiplied alpha": (2, "minisblack", "assocalpha"),
    "grey and a second": (2, "minisblack", "unspecified"),
    "RGB": (3, "rgb", None),
    "straight alpha": (4, "rgb", "unassalpha"),
    "multiplied alpha": (4, "rgb", "assocalpha"),
    "a fourth": (4, "rgb", "unspecified"),
    "CMYK": (4, "separated", None),
}


def values(dtype: type, samples: int) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    share = np.stack([(x * (3 + c) + y * (5 - c) + c * 37) % 97 / 96 for c in range(samples)], -1)
    return (share * np.iinfo(dtype).max).astype(dtype)


def meant(stored: np.ndarray, kind: str) -> np.ndarray:
    """(H, W, 3) in 0...255 over white, by hand."""
    shade = stored * (255 / np.iinfo(stored.dtype).max)
    if kind in ("grey", "white is zero"):
        return np.repeat(255 - shade if kind == "white is zero" else shade, 3, -1)
    colour, fourth = np.split(np.repeat(shade, [3, 1], -1) if kind.startswith("grey") else shade, [3], -1)
    if kind == "CMYK":
        return (255 - colour) * (255 - fourth) / 255
    if kind.endswith("straight alpha"):
        return (colour * fourth + 255 * (255 - fourth)) / 255
    return np.minimum(colour + 255 - fourth, 255) if kind.endswith("multiplied alpha") else colour


@pytest.mark.parametrize("compression", [None, "zlib"])  # tifffile itself writes these two
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_layout(dtype, compression):
    for kind, planar, tile, order in product(KINDS, ("contig", "separate"), (None, (32, 32)), "<>"):
        samples, photometric, extra = KINDS[kind]
        stored = values(dtype, samples)
        data = stored if planar == "contig" else np.moveaxis(stored, -1, 0)
        options = {"tile": tile} if tile else {"rowsperstrip": 7}
        if samples > 1:
            options["planarconfig"] = planar
        elif planar == "separate":
            continue
        if kind.startswith("grey and") and planar == "separate" and extra != "unspecified":
            continue  # refused: see below
        if extra:
            options["extrasamples"] = [extra]
        file = io.BytesIO()
        data = data[..., 0] if samples == 1 else data
        tifffile.imwrite(file, data, photometric=photometric, compression=compression, byteorder=order, **options)
        error = np.abs(read_image(file.getvalue()) - meant(stored, kind))
        if kind.endswith("multiplied alpha"):
            error = error[stored[..., -1] > np.iinfo(dtype).max / 4]  # 8 bits say little of colours where hardly any is
        most = 0.501 if kind in ("grey", "RGB") and planar == "contig" else 3
        assert error.max() <= most, (kind, planar, tile, order)


@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_in_a_plane_apart_from_grey_is_refused_as_a_kind(dtype, extra):
    """It is no damage. Pillow would take one plane for both."""
    file = io.BytesIO()
    data = np.moveaxis(values(dtype, 2), -1, 0)
    tifffile.imwrite(file, data, photometric="minisblack", planarconfig="separate", extrasamples=[extra])
    with refused("TIFF", "not read", "PNG", error=ReadError):
        read_image(file.getvalue())


@pytest.mark.parametrize(("number", "name"), [(50001, "WebP"), (34712, "JPEG 2000"), (50002, "JPEG XL"), (777, "777")])
def test_a_compression_without_a_decoder_is_named(number, name):
    file = io.BytesIO()
    tifffile.imwrite(file, values(np.uint8, 3), photometric="rgb")
    data = bytearray(file.getvalue())
    entry = data.index(struct.pack("<HHI", 259, 3, 1))
    data[entry + 8 : entry + 10] = struct.pack("<H", number)
    with refused("TIFF", name, "not read", error=ReadError):
        read_image(bytes(data))


def test_a_bigtiff_is_read_or_refused_as_a_kind():
    stored = values(np.uint16, 3)
    for order in "<>":
        file = io.BytesIO()
        tifffile.imwrite(file, stored, photometric="rgb", bigtiff=True, byteorder=order)
        if order == "<":
            assert np.abs(read_image(file.getvalue()) - meant(stored, "RGB")).max() <= 0.501
        else:
            with refused("BigTIFF", "not read", error=ReadError):
                read_image(file.getvalue())


def test_white_that_is_zero_beside_alpha_and_an_orientation():
    stored = values(np.uint16, 2)
    file = io.BytesIO()
    turned = (274, "H", 1, 6, True)  # the first row is the right side
    tifffile.imwrite(file, stored, photometric="miniswhite", extrasamples=["unassalpha"], extratags=[turned])
    white, alpha = 255 - stored[..., :1] / 257, stored[..., 1:] / 65535
    expected = np.rot90(white * alpha + 255 * (1 - alpha), -1)
    # half a level each for the rounding of grey, of alpha and of the blend
    assert np.abs(read_image(file.getvalue()) - expected).max() <= 1.5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int16, np.float32, np.float16])
@pytest.mark.parametrize("samples", [1, 2, 3, 5])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_odd_samples_are_refused_or_right(dtype, samples, planar):
    data = np.full((24, 20, samples), 100 * 257 if dtype == np.uint16 else 100, dtype)
    data = np.moveaxis(data, -1, 0) if planar == "separate" and samples > 1 else data
    file = io.BytesIO()
    options = {"planarconfig": planar} if samples > 1 else {}
    extra = {"extrasamples": ["unassalpha"] if samples == 2 else ["unspecified"] * 2} if samples in (2, 5) else {}
    photometric = "rgb" if samples in (3, 5) else "minisblack"
    tifffile.imwrite(file, data if samples > 1 else data[..., 0], photometric=photometric, **options, **extra)
    shade, alpha = 100, 100 / 255 if samples == 2 else 1
    with contextlib.suppress(ReadError):
        picture = read_image(file.getvalue())
        assert dtype in (np.uint8, np.uint16)
        assert np.abs(picture - (shade * alpha + 255 * (1 - alpha))).max() <= 1
