"""Reading and writing still pictures, against values worked out by hand."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from atoken.media.image.files import read_image, read_rgba, write_image
from atoken.media.suffixes import IMAGE_SUFFIXES

NOISE = np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8)
SMOOTH = np.stack([*np.meshgrid(np.arange(0, 128, 4), np.arange(64, 192, 4)), np.full((32, 32), 90)], -1).astype("u1")


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width, height, depth, colour, rows, extra=()):
    """A PNG put together by hand, for kinds that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", header), *extra, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def icc(space: bytes, pcs: bytes, tag: bytes, body: bytes) -> bytes:
    """An ICC 2.4 profile with the D50 white point and one more tag."""
    d50 = struct.pack(">3i", 63190, 65536, 54061)
    white = b"XYZ \0\0\0\0" + d50
    table = struct.pack(">I4sII4sII", 2, b"wtpt", 156, len(white), tag, 156 + len(white), len(body))
    head = struct.pack(">II4s4s4s12x4s28x12s48x", 0, 0x02400000, b"scnr", space, pcs, b"acsp", d50)
    profile = head[:4] + b"\0\0\0\0" + head[4:124] + table + white + body
    return struct.pack(">I", len(profile)) + profile[4:8] + profile[8:]


def pixels(image: Image.Image) -> list:
    return read_image(image)[0].tolist()


# Formats


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".tiff", ".bmp", ".PNG"])
def test_lossless_formats_give_the_same_pixels_back(tmp_path, suffix):
    write_image(tmp_path / f"a{suffix}", NOISE[:, ::-1])
    result = read_image(tmp_path / f"a{suffix}")
    assert np.array_equal(result, NOISE[:, ::-1])
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    assert result.flags.writeable


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".jfif", ".avif", ".webp"])
def test_lossy_formats_stay_close_and_obey_quality(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_image(path, SMOOTH)
    assert np.abs(read_image(path).astype(int) - SMOOTH).max() <= 6
    write_image(path, NOISE, quality=95)
    fine = path.stat().st_size
    write_image(path, NOISE, quality=5)
    assert path.stat().st_size < fine
    with Image.open(path) as image:
        assert image.format == {".avif": "AVIF", ".webp": "WEBP"}.get(suffix, "JPEG")


def test_jpeg_keeps_full_colour_resolution(tmp_path):
    write_image(tmp_path / "a.jpg", SMOOTH)
    with Image.open(tmp_path / "a.jpg") as image:
        assert [component[1:3] for component in image.layer] == [(1, 1)] * 3


def test_sources_of_every_kind_and_content_over_suffix(tmp_path):
    data = encoded(Image.fromarray(NOISE))
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(data)
    stream = io.BytesIO(data)
    stream.seek(0, os.SEEK_END)
    for source in (path, str(path), data, stream, Image.fromarray(NOISE), Image.open(path)):
        assert np.array_equal(read_image(source), NOISE)
    assert not stream.closed
    assert {".jpg", ".png", ".webp", ".avif", ".tiff", ".gif"} <= IMAGE_SUFFIXES


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_extreme_shapes(tmp_path, size):
    array = np.full((size[1], size[0], 3), 7, np.uint8)
    for suffix in (".png", ".jpg", ".webp", ".avif", ".tif", ".bmp"):
        write_image(tmp_path / f"a{suffix}", array)
        assert read_image(tmp_path / f"a{suffix}").shape == array.shape


def test_jpeg_oddities_of_phones_and_cameras():
    image = Image.fromarray(SMOOTH)
    plain = read_image(encoded(image, "JPEG"))
    assert np.array_equal(read_image(encoded(image, "JPEG", progressive=True)), plain)
    assert np.array_equal(read_image(encoded(image, "JPEG") + b"\0trailing" * 99), plain)
    with pytest.warns(UserWarning, match=r"the image data .*2 frames"):
        assert np.array_equal(read_image(encoded(image, "MPO", save_all=True, append_images=[image])), plain)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_give_the_first_frame_and_say_so(kind):
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with pytest.warns(UserWarning, match="the image data .*3 frames") as caught:
        assert (read_image(data) == (255, 0, 0)).all()
    assert caught[0].filename == __file__


# Orientation

STORED = {  # how the upright picture 123/456 lies in a file of each EXIF orientation
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[3, 6], [2, 5], [1, 4]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[4, 1], [5, 2], [6, 3]],
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation(orientation):
    grey = np.array(STORED[orientation], np.uint8) * 30
    image = Image.fromarray(np.repeat(grey[..., None], 3, axis=2))
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = np.array(STORED[1]) * 30
    lossless = [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})]
    for kind, options in [*lossless, ("JPEG", {"quality": 100}), ("AVIF", {"quality": 100})]:
        result = read_image(encoded(image, kind, exif=exif.tobytes(), **options))
        assert result.shape == (2, 3, 3), kind
        assert np.abs(result[..., 1].astype(int) - upright).max() <= (0 if (kind, options) in lossless else 12), kind
    image.info["exif"] = exif.tobytes()
    assert np.array_equal(read_image(image)[..., 0], upright)
    with_alpha = image.convert("LA")
    assert np.array_equal(read_image(encoded(with_alpha, exif=exif.tobytes()))[..., 0], upright)


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></x>'


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "TIFF", "PNG"])
def test_an_orientation_in_xmp_alone_is_not_applied(kind):
    image = Image.fromarray(SMOOTH[:16])
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    options = {"TIFF": {"tiffinfo": {700: XMP}}, "PNG": {"pnginfo": text}}.get(kind, {"xmp": XMP})
    data = encoded(image, kind, **options)
    with Image.open(io.BytesIO(data)) as opened:
        assert read_image(opened).shape == (16, 32, 3) or kind == "TIFF"  # which Pillow itself turns
    assert read_image(data).shape == (16, 32, 3)


# Colour

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RED_IS_GREEN = SRGB.replace(b"rXYZ", b"tmp_", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"tmp_", b"gXYZ", 1)
LINEAR_GREY = icc(b"GRAY", b"XYZ ", b"kTRC", b"curv\0\0\0\0\0\0\0\0")
CYAN_IS_WHITE = icc(  # a table of 2^4 corners CMYK → Lab (8 bits): L is the amount of cyan
    b"CMYK",
    b"Lab ",
    b"A2B0",
    b"mft1\0\0\0\0\x04\x03\x02\0"
    + struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    + bytes(range(256)) * 4
    + b"\x00\x80\x80" * 8
    + b"\xff\x80\x80" * 8
    + bytes(range(256)) * 3,
)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
def test_icc_profile_is_converted_to_srgb(kind):
    options = {"quality": 100, "subsampling": "4:4:4"} if kind in ("JPEG", "AVIF") else {"lossless": True}
    data = encoded(Image.new("RGB", (8, 8), (255, 0, 0)), kind, icc_profile=RED_IS_GREEN, **options)
    assert np.abs(read_image(data)[4, 4].astype(int) - (0, 255, 0)).max() <= 3


def test_icc_profiles_of_every_colour_space():
    assert np.array_equal(read_image(encoded(Image.fromarray(NOISE), icc_profile=SRGB)), NOISE)  # exactly
    grey = Image.new("L", (1, 1), 55)  # linear light 55/255 is sRGB 1.055 * (55/255)**(1/2.4) - 0.055 = 0.5017
    for image in (grey, grey.convert("LA"), Image.fromarray(np.full((1, 1), 55 * 257, np.uint16))):
        assert np.abs(read_image(encoded(image, icc_profile=LINEAR_GREY)).astype(int) - 128).max() <= 1
    assert (read_image(encoded(grey, icc_profile=RED_IS_GREEN)) == 55).all()
    palette = Image.new("RGB", (1, 1), (255, 0, 0)).quantize(2)
    assert read_image(encoded(palette, icc_profile=RED_IS_GREEN)).tolist() == [[[0, 255, 0]]]
    cmyk = Image.new("CMYK", (1, 1), (255, 0, 0, 0))
    assert read_image(encoded(cmyk, "TIFF")).tolist() == [[[0, 255, 255]]]
    assert read_image(encoded(cmyk, "TIFF", icc_profile=CYAN_IS_WHITE)).min() >= 254


@pytest.mark.parametrize("profile", [b"nonsense", SRGB[:200], LINEAR_GREY, CYAN_IS_WHITE])
def test_unusable_profile_is_announced_and_taken_as_srgb(profile):
    with pytest.warns(UserWarning, match=r"the image data .*ICC profile"):
        assert np.array_equal(read_image(encoded(Image.fromarray(NOISE), icc_profile=profile)), NOISE)


def test_alpha_is_blended_over_the_background():
    image = Image.new("RGBA", (1, 1), (200, 100, 0, 51))  # 51/255 is a fifth
    assert pixels(image) == [[244, 224, 204]]
    for source in (image, encoded(image), encoded(image, "WEBP", lossless=True, exact=True), encoded(image, "TIFF")):
        assert read_image(source, background=(0, 10, 255)).tolist() == [[[40, 28, 204]]]
    assert read_image(Image.new("LA", (1, 1), (100, 51)), background=(0, 50, 255)).tolist() == [[[20, 60, 224]]]
    mixed = read_image(Image.new("RGBA", (1, 1), (202, 203, 3, 51)), background=(0, 0, 0))
    assert mixed.tolist() == [[[40, 41, 1]]]  # 40.4, 40.6, 0.6
    assert pixels(Image.new("RGBA", (1, 1), (1, 2, 3, 255))) == [[1, 2, 3]]
    assert pixels(image.convert("RGBa"))[0] == pytest.approx([244, 224, 204], abs=1)
    assert pixels(Image.new("LA", (1, 1), (100, 51)).convert("La"))[0] == pytest.approx([224] * 3, abs=1)


def test_palettes_with_transparency():
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    assert pixels(image) == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    for kind, key, expected in (("PNG", b"\x00\xff\x33", [204, 204, 255]), ("GIF", 0, [0, 0, 255])):
        data = encoded(image, kind, transparency=key)
        assert read_image(data)[0].tolist() == [[255, 255, 255], [0, 255, 0], expected]
    assert pixels(image.convert("PA")) == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


def test_transparent_colour_of_png_in_every_depth():
    """tRNS names a value in the depth of the file: the middle of three pixels disappears."""
    cases = [
        (1, 0, b"\xa0", (0,), [255, None, 255]),
        (2, 0, b"\x18", (1,), [0, None, 170]),
        (4, 0, b"\x12\x30", (2,), [17, None, 51]),
        (8, 0, b"\x01\x02\x03", (2,), [1, None, 3]),
        (16, 0, struct.pack(">3H", 257, 1000, 1001), (1000,), [1, None, 4]),
        (8, 2, bytes([1, 1, 1, 2, 2, 2, 3, 3, 3]), (2, 2, 2), [1, None, 3]),
        (16, 2, struct.pack(">9H", *[258] * 3, *[0x2080] * 3, *[772] * 3), (0x2080,) * 3, [1, None, 3]),
    ]
    for depth, colour, row, key, grey in cases:
        data = png(3, 1, depth, colour, [row], [(b"tRNS", struct.pack(f">{len(key)}H", *key))])
        expected = [[255, 0, 128] if v is None else [v] * 3 for v in grey]
        assert read_image(data, background=(255, 0, 128))[0].tolist() == expected, (depth, colour)


def test_a_pil_image_is_not_changed():
    image = Image.open(io.BytesIO(png(3, 1, 4, 0, [b"\x12\x30"], [(b"tRNS", b"\0\2")])))
    assert read_image(image, background=(0, 0, 0))[0, :, 0].tolist() == [17, 0, 51]
    assert (image.mode, image.size, image.info) == ("L", (3, 1), {"transparency": 2})


def test_sixteen_bits_are_rounded_to_eight():
    values = np.array([[0, 128, 129, 257, 32767, 65406, 65407, 65535]], np.uint16)
    rounded = [0, 0, 1, 1, 127, 254, 255, 255]  # v / 257
    image = Image.fromarray(values)
    swapped = Image.frombytes("I;16B", (8, 1), values.astype(">u2").tobytes())
    files = [encoded(image), encoded(image, "TIFF"), encoded(swapped, "TIFF")]
    for source in [image, swapped, *files]:
        assert read_image(source)[0, :, 0].tolist() == rounded
    assert read_image(encoded(image, "TIFF", tiffinfo={262: 0}))[0, :, 0].tolist() == [255 - v for v in rounded]
    colours = np.repeat(values[0], 3)
    for kind, extra in ((2, []), (6, [65535])):
        row = np.concatenate([[*pixel, *extra] for pixel in colours.reshape(-1, 3)]).astype(">u2").tobytes()
        picture = png(8, 1, 16, kind, [row])
        assert read_image(picture)[0, :, 0].tolist() == rounded
        assert read_rgba(picture)[0, :, 2].tolist() == rounded
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 110), (277, 1), (279, 3)]  # a TIFF of 12 bits
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag == 273 else 3, 1, value) for tag, value in tags)
    tiff = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4)
    assert len(tiff) == 110
    assert read_image(tiff + b"\xff\xf8\x00")[0, :, 0].tolist() == [255, 128]  # 4095 and 2048: 127.53


def test_other_modes():
    assert pixels(Image.new("1", (1, 1), 1)) == [[255, 255, 255]]
    assert pixels(Image.new("L", (1, 1), 77)) == [[77, 77, 77]]
    assert pixels(Image.new("CMYK", (1, 1), (51, 102, 0, 85))) == [[136, 102, 170]]  # (255 - ink) * 170 / 255
    red = pixels(Image.new("YCbCr", (1, 1), (128, 128, 228)))[0]
    assert red == pytest.approx([255, 128 - 71.4, 128], abs=1)  # 128 + 1.402 * 100 is clipped
    assert pixels(Image.new("HSV", (1, 1), (0, 255, 200))) == [[200, 0, 0]]
    assert pixels(Image.new("RGBX", (1, 1), (1, 2, 3, 0))) == [[1, 2, 3]]
    lab = Image.new("LAB", (1, 1), (138, 209, 198))  # CIELAB of sRGB red under D50: 54.3, 80.8, 69.9
    for source in (lab, encoded(lab, "TIFF")):
        assert np.abs(read_image(source)[0, 0].astype(int) - (255, 0, 0)).max() <= 6  # 8 bits are coarse
    jpeg = read_image(encoded(Image.new("CMYK", (8, 8), (51, 102, 0, 85)), "JPEG", quality=100))
    assert np.abs(jpeg.astype(int) - (136, 102, 170)).max() <= 2
