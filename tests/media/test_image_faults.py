"""Pictures that cannot be read or written: one sentence each, and nothing left behind."""

import contextlib
import errno
import io
import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from atoken.core.errors import ReadError
from atoken.media.image.files import DEFAULT_MAX_PIXELS, read_image, write_image
from refusals import refused

ARRAY = np.random.default_rng(1).integers(0, 256, (12, 10, 3), dtype=np.uint8)
PICTURE = Image.fromarray(ARRAY)
KINDS = ["PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF"]


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return start + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


def unread(source, *named: str, **options) -> None:
    """Reading must raise a ReadError of one sentence that names these."""
    with refused(*named, error=ReadError):
        read_image(source, **options)


def test_files_that_are_no_picture(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"")
    unread(path, str(path), "empty")
    unread(b"", "the image data", "empty")
    unread(b"", "sample 7", name="sample 7")
    path.write_text("just some text, long enough to be a header")
    unread(path, str(path), "JPEG", "convert it to PNG")
    with path.open() as text, refused(str(path), "binary mode"):
        read_image(text)
    with refused("ndarray"):
        read_image(ARRAY)
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "missing.png")
    with pytest.raises(IsADirectoryError):
        read_image(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_a_truncated_file_never_gives_other_pixels(kind):
    data = encoded(PICTURE, kind)
    whole = read_image(data)
    unread(data[: len(data) // 2], "the image data", kind)
    for length in range(0, len(data), 7):
        with contextlib.suppress(ValueError):  # else only bytes behind the pixels were cut off
            assert np.array_equal(read_image(data[:length]), whole)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_random_damage_is_a_value_error_or_nothing(kind, tmp_path):
    original, chance, path = encoded(PICTURE, kind), random.Random(kind), tmp_path / "a"
    for trial in range(200):
        data = bytearray(original)
        for _ in range(chance.choice([1, 1, 2, 8])):
            data[chance.randrange(min(len(data), chance.choice([60, 300, 9999])))] = chance.randrange(256)
        path.write_bytes(data)
        with contextlib.suppress(ValueError):
            result = read_image(path if trial % 2 else bytes(data), max_pixels=100_000)
            assert result.dtype == np.uint8
            assert result.shape[2] == 3


def test_an_offset_outside_the_file_is_a_fault_of_the_file(tmp_path):
    path = tmp_path / "a.tif"  # seeking there is EINVAL to the operating system
    path.write_bytes(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 2**63 - 1))
    unread(path, str(path), "TIFF")


def test_values_of_unknown_range_are_refused():
    for source in (Image.new("F", (2, 2)), encoded(Image.new("F", (2, 2)), "TIFF")):
        unread(source, "the image", "floating-point", "value_range=")
    for source in (Image.new("I", (2, 2), 200), encoded(Image.new("I", (2, 2), 200), "TIFF")):
        unread(source, "the image", "32-bit", "value_range=")


def test_pictures_without_pixels():
    unread(png_header(0, 5), "the image data")
    unread(Image.new("RGB", (0, 5)), "0x5")


def test_arguments_out_of_range():
    for options in ({"background": (0, 0, 256)}, {"background": (0.5, 0, 0)}, {"max_pixels": 0}):
        with refused(*options):
            read_image(PICTURE, **options)


def huge_webp(width: int) -> bytes:
    return b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + struct.pack("<I", width - 1)[:3] * 2 + b"VP8L\0\0\0\0"


def huge_gif(side: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", side, side) + b"\0\0\0," + struct.pack("<4H", 0, 0, side, side) + b"\0\2\0;"


def test_a_bomb_is_refused_from_its_header():
    for data, pixels in (
        (png_header(60_000, 60_000), 60_000**2),
        (huge_webp(16_383), 16_383**2),
        (huge_gif(65_535), 65_535**2),
    ):
        unread(data, pixels, DEFAULT_MAX_PIXELS, "max_pixels", "--max-pixels")
    unread(PICTURE, "120 pixels", "119", max_pixels=119)
    unread(encoded(PICTURE), "120 pixels", "119", max_pixels=119)
    assert np.array_equal(read_image(encoded(PICTURE), max_pixels=120), ARRAY)


def test_a_few_bytes_do_not_hold_many_pixels_unless_trusted():
    """4097 squared of one colour is below the limit, and 17 MB of grey are nothing that 100 bytes are believed."""
    blank = encoded(Image.new("1", (4097, 4097)), "TIFF", compression="group4")  # one bit a row
    assert len(blank) * 2**12 < 4097**2
    unread(blank, 4097**2, len(blank), "max_pixels", "--max-pixels")
    assert read_image(blank, max_pixels=DEFAULT_MAX_PIXELS + 1).shape == (4097, 4097, 3)


def test_registry_and_limit_of_pillow_are_neither_used_nor_changed(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    monkeypatch.setattr(Image, "OPEN", {})
    for kind in KINDS:
        assert read_image(encoded(PICTURE, kind)).shape == ARRAY.shape
        with contextlib.suppress(ReadError):  # Pillow itself minds the limit in some formats
            read_image(encoded(PICTURE.resize((40, 30)), kind))
    assert (Image.MAX_IMAGE_PIXELS, Image.OPEN) == (500, {})


def test_a_broken_exif_block_is_announced():
    class Broken(Image.Image):
        def getexif(self):
            raise SyntaxError("not a TIFF header")

    picture = PICTURE.copy()
    picture.__class__ = Broken
    with pytest.warns(UserWarning, match="EXIF"):
        assert np.array_equal(read_image(picture), ARRAY)


# Writing


@pytest.mark.parametrize(
    ("name", "array", "options", "words"),
    [
        ("a.png", ARRAY.astype(np.float32), {}, "float32"),
        ("a.png", ARRAY[..., 0], {}, "(12, 10)"),
        ("a.png", np.zeros((4, 4, 4), np.uint8), {}, "(4, 4, 4)"),
        ("a.png", np.zeros((0, 4, 3), np.uint8), {}, "(0, 4, 3)"),
        ("a.png", ARRAY.tolist(), {}, "list"),
        ("a.gif", ARRAY, {}, "a.gif"),
        ("a", ARRAY, {}, ".png"),
        ("a.png", ARRAY, {"quality": 90}, ".png"),
        ("a.jpg", ARRAY, {"quality": 0}, "1..100"),
        ("a.jpg", ARRAY, {"quality": 9.5}, "1..100"),
        ("a.webp", np.zeros((1, 16_384, 3), np.uint8), {}, "16384x1"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, name, array, options, words):
    with refused(words):
        write_image(tmp_path / name, array, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_picture(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_image(path, ARRAY)

    def full(self, data):
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        write_image(path, ARRAY[::-1])
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert list(tmp_path.iterdir()) == [path]
    assert np.array_equal(read_image(path), ARRAY)
