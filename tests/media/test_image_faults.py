"""Pictures that cannot be read or written: one sentence each, and nothing left behind."""

import contextlib
import errno
import io
import os
import random
import re
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from atoken.media.image import DEFAULT_MAX_PIXELS, read_image, write_image
from atoken.media.pillow import pillow_limit

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


def refused(source, *words: str, **options) -> None:
    """Reading must raise a plain ValueError of one short sentence with these words."""
    with pytest.raises(ValueError, match=r"\.$") as caught:
        read_image(source, **options)
    text = str(caught.value)
    assert type(caught.value) is ValueError
    assert len(text) < 200 + (len(str(source)) if isinstance(source, Path) else 0)
    assert all(word in text for word in words), text


def test_files_that_are_no_picture(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"")
    refused(path, str(path), "empty")
    refused(b"", "the image data is empty")
    path.write_text("just some text, long enough to be a header")
    refused(path, str(path), "not a JPEG, PNG", "convert it to PNG")
    refused(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "not a JPEG")
    with path.open() as text, pytest.raises(ValueError, match="binary mode"):
        read_image(text)
    with pytest.raises(ValueError, match="source is a ndarray"):
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
    refused(data[: len(data) // 2], "the image data", "truncated")
    for length in range(0, len(data), 7):
        with contextlib.suppress(ValueError):  # else only bytes behind the pixels were cut off
            assert np.array_equal(read_image(data[:length]), whole)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


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
    refused(path, str(path), "TIFF", "damaged")


def test_values_of_unknown_range_are_refused():
    refused(Image.new("F", (2, 2)), "the image", "floating-point", "value_range=")
    refused(encoded(Image.new("F", (2, 2)), "TIFF"), "floating-point", "value_range=")
    refused(Image.new("I", (2, 2), 200), "32-bit", "value_range=")
    refused(encoded(Image.new("I", (2, 2), 200), "TIFF"), "32-bit", "value_range=")


def test_pictures_without_pixels():
    refused(png_header(0, 5), "no pixels")
    refused(Image.new("RGB", (0, 5)), "no pixels (0x5)")


def test_arguments_out_of_range():
    refused(PICTURE, "background", background=(0, 0, 256))
    refused(PICTURE, "background", background=(0.5, 0, 0))
    refused(PICTURE, "max_pixels", max_pixels=0)


def test_a_bomb_is_refused_from_its_header():
    huge_webp = b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xfe\x3f\0" * 2 + b"VP8L\0\0\0\0"
    huge_gif = b"GIF89a\xff\xff\xff\xff\0\0\0," + struct.pack("<4H", 0, 0, 65535, 65535) + b"\0\x02\0;"
    for data, pixels in [(png_header(60_000, 60_000), 60_000**2), (huge_webp, 16_383**2), (huge_gif, 65_535**2)]:
        refused(data, str(pixels), str(DEFAULT_MAX_PIXELS), "max_pixels", "--max-pixels")
    refused(PICTURE, "120 pixels", "119", max_pixels=119)
    assert np.array_equal(read_image(encoded(PICTURE), max_pixels=120), ARRAY)


def test_the_limit_is_ours_and_not_that_of_pillow(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    files = [encoded(PICTURE, kind) for kind in KINDS] + [encoded(PICTURE, "TIFF", compression="tiff_lzw")]
    wide_frame = encoded(PICTURE, "GIF")
    files.append(wide_frame[:6] + b"\x01\0\x01\0" + wide_frame[10:])  # larger than the screen the header promises
    faults = []

    def read_all():
        try:
            for data in files * 5:
                assert read_image(data).shape == ARRAY.shape
        except Exception as error:
            faults.append(error)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threads = [threading.Thread(target=read_all) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not faults
    assert Image.MAX_IMAGE_PIXELS == 10


def test_a_limit_that_the_program_sets_meanwhile_stays(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pillow_limit.at_least(50):
        assert Image.MAX_IMAGE_PIXELS == 50
        Image.MAX_IMAGE_PIXELS = None
    assert Image.MAX_IMAGE_PIXELS is None
    assert np.array_equal(read_image(encoded(PICTURE, "GIF")).shape, ARRAY.shape)
    assert Image.MAX_IMAGE_PIXELS is None


def test_a_broken_exif_block_is_announced():
    class Broken(Image.Image):
        def getexif(self):
            raise SyntaxError("not a TIFF header")

    picture = PICTURE.copy()
    picture.__class__ = Broken
    with pytest.warns(UserWarning, match="the image has a broken EXIF block"):
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
        ("a.gif", ARRAY, {}, "writable format"),
        ("a", ARRAY, {}, "writable format"),
        ("a.png", ARRAY, {"quality": 90}, "no meaning for .png"),
        ("a.jpg", ARRAY, {"quality": 0}, "1..100"),
        ("a.jpg", ARRAY, {"quality": 9.5}, "1..100"),
        ("a.webp", np.zeros((1, 16_384, 3), np.uint8), {}, "16384x1"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, name, array, options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
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
    with pytest.raises(OSError, match="No space left") as caught:
        write_image(path, ARRAY[::-1])
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == [path]
    assert np.array_equal(read_image(path), ARRAY)
