"""TIFF by TIFF: every layout that people's programs write is read right or refused, never wrong without a word."""

import contextlib
import io
from itertools import product

import numpy as np
import pytest

from atoken.core.errors import ReadError
from atoken.media.image.files import read_image

tifffile = pytest.importorskip("tifffile")
HEIGHT, WIDTH = 50, 70
KINDS = {  # samples, photometric, what the fourth is
    "grey": (1, "minisblack", None),
    "white is zero": (1, "miniswhite", None),
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
    colour, fourth = shade[..., :3], shade[..., 3:]
    if kind == "CMYK":
        return (255 - colour) * (255 - fourth) / 255
    if kind == "straight alpha":
        return (colour * fourth + 255 * (255 - fourth)) / 255
    return np.minimum(colour + 255 - fourth, 255) if kind == "multiplied alpha" else colour


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
        if extra:
            options["extrasamples"] = [extra]
        file = io.BytesIO()
        data = data[..., 0] if samples == 1 else data
        tifffile.imwrite(file, data, photometric=photometric, compression=compression, byteorder=order, **options)
        error = np.abs(read_image(file.getvalue()) - meant(stored, kind))
        if kind == "multiplied alpha":
            error = error[stored[..., 3] > np.iinfo(dtype).max / 4]  # 8 bits say little of colours where hardly any is
        most = 0.501 if kind in ("grey", "RGB") and planar == "contig" else 3
        assert error.max() <= most, (kind, planar, tile, order)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int16, np.float32, np.float16])
@pytest.mark.parametrize("samples", [1, 2, 3, 5])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_odd_samples_are_refused_or_right(dtype, samples, planar):
    data = np.full((24, 20, samples), 100, dtype)
    data = np.moveaxis(data, -1, 0) if planar == "separate" and samples > 1 else data
    file = io.BytesIO()
    options = {"planarconfig": planar} if samples > 1 else {}
    extra = {"extrasamples": ["unassalpha"] if samples == 2 else ["unspecified"] * 2} if samples in (2, 5) else {}
    photometric = "rgb" if samples in (3, 5) else "minisblack"
    tifffile.imwrite(file, data if samples > 1 else data[..., 0], photometric=photometric, **options, **extra)
    shade, alpha = 100 if dtype == np.uint8 else 0, 100 / 255 if samples == 2 else 1
    with contextlib.suppress(ReadError):
        picture = read_image(file.getvalue())
        assert dtype in (np.uint8, np.uint16)
        assert np.abs(picture - (shade * alpha + 255 * (1 - alpha))).max() <= 1
