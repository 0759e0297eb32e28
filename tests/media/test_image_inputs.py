"""The pictures of tests/data/inputs, kinds that users report in public, and what is right for each."""

import os
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atoken.core.errors import ReadError
from atoken.media.image.files import read_image, read_rgba
from atoken.media.image.opener import open_picture
from atoken.media.kinds import modality_of
from atoken.media.suffixes import IMAGE_SUFFIXES
from refusals import refused

INPUTS = Path(__file__).parent.parent / "data/inputs"
IMAGE, BROKEN = INPUTS / "image", INPUTS / "broken"
RED, GREEN, BLUE, YELLOW, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 255, 255)


def quarters(picture: np.ndarray) -> list[list[int]]:
    """The middle pixels of the four quarters, row by row."""
    height, width, _ = picture.shape
    return [picture[height * y // 4, width * x // 4].tolist() for y in (1, 3) for x in (1, 3)]


@pytest.mark.parametrize("name", ["t_planar16.tif", "p16_tiled.tif", "p16_rgba.tif", "bmp_v4_a0.bmp", "xmp6.jpg"])
def test_the_picture_of_the_inputs(name):
    """One picture, 40 x 24, in every file: apart in planes, with alpha never filled in, with XMP that says turned."""
    picture = read_image(IMAGE / name)
    assert picture.shape == (24, 40, 3)
    assert picture.mean((0, 1)) == pytest.approx([117, 115, 93], abs=0.6)


def test_hdr_is_taken_as_it_is_and_said():
    for name in ("cicp_pq.png", "pq.heic"):
        if name.endswith("heic"):
            pytest.importorskip("pi_heif")
        with pytest.warns(UserWarning, match=f"{name}.*PQ"):
            read_image(IMAGE / name)


def test_signed_values_are_refused():
    with refused("t_i16.tif", "signed", "value_range=", error=ReadError):
        read_image(IMAGE / "t_i16.tif")


@pytest.mark.parametrize(
    ("name", "expected", "close"),
    [
        ("phone.heic", [BLUE, RED, YELLOW, GREEN], 3),  # stored on its side, as phones do
        ("from_jpeg.jxl", [BLUE, RED, YELLOW, GREEN], 3),
        ("p3.heic", [RED, GREEN, BLUE, YELLOW], 3),
        ("alpha.jxl", [RED, GREEN, WHITE, YELLOW], 0),
        ("icc.jxl", [GREEN, RED, BLUE, YELLOW], 1),  # a profile with red and green exchanged
        ("lossless.jxl", [(64, 60, 211), (192, 60, 147), (64, 180, 187), (192, 180, 123)], 0),
    ],
)
def test_heic_and_jpeg_xl(name, expected, close):
    pytest.importorskip("pi_heif" if name.endswith("heic") else "pylibjxl")
    assert {".heic", ".heif", ".jxl"} <= IMAGE_SUFFIXES
    picture = read_image(IMAGE / name)
    assert picture.shape == ((64, 48, 3) if expected[0] == BLUE else (48, 64, 3))
    assert np.abs(np.array(quarters(picture)) - expected).max() <= close


@pytest.mark.parametrize("name", ["phone.heic", "alpha.jxl"])
def test_heic_and_jpeg_xl_without_their_packages_name_the_extra(name, monkeypatch):
    for module in ("pi_heif", "pillow_heif", "pylibjxl", "pylibjxl.pillow_plugin"):
        monkeypatch.setitem(sys.modules, module, None)
    with refused(name, "atoken[pictures]", "PNG", error=ReadError):
        read_image(IMAGE / name)


@pytest.mark.parametrize("name", ["phone.heic", "alpha.jxl"])
def test_optional_formats_are_registered_nowhere(name):
    pytest.importorskip("pi_heif" if name.endswith("heic") else "pylibjxl")
    read_image(IMAGE / name)
    with pytest.raises(Image.UnidentifiedImageError):
        Image.open(IMAGE / name)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("eps.png", ("PostScript",)),
        ("depth_syntaxerror.png", ("PNG",)),
        ("img-25108-mem-lab.tif", ("130024168", "--max-pixels")),
        ("img-36918-mem-anim.webp", ("130024168", "--max-pixels")),
    ],
)
def test_broken_pictures_are_refused_by_name(name, named):
    for read in (read_image, read_rgba):
        with refused(BROKEN / name, *named, error=ReadError):
            read(BROKEN / name)


FOREIGN = {
    "a.svg": (b"<?xml version='1.0'?>\n<!-- made -->\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    "b.svg": (b"\xef\xbb\xbf<svg width='3'/>", "SVG"),
    "a.pdf": (b"%PDF-1.7\n", "PDF"),
    "a.psd": (b"8BPS\0\1", "Photoshop"),
    "a.exr": (b"v/1\x01\2\0\0\0", "value_range="),
    "a.hdr": (b"#?RADIANCE\n", "value_range="),
    "a.jp2": (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    "a.ppm": (b"P6\n3 3\n255\n", "Netpbm"),
    "a.ico": (b"\0\0\1\0\1\0", "icon"),
    "a.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
    "a.npy": (b"\x93NUMPY\1\0", "array"),
    "a.zip": (b"PK\3\4", "unpack"),
    "a.png": (b"<!DOCTYPE html><html>", "web page"),
    "b.png": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs"),
    "c.png": (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "video"),
    "d.png": (b"\0" * 64, "PNG"),
    "a.usdz": (b"PK\3\4", "3D"),
    "a.sog": (b"PK\3\4", "3D"),
    "a.spz": (b"\x1f\x8b\x08\0", "3D"),
    "a.ksplat": (b"\0\1" * 40, "3D"),
    "a.fbx": (b"Kaydara FBX Binary  \0", "3D"),
    "a.dng": (b"MM\0*\0\0\0\x08\0\0", "raw"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_files_are_called_by_their_names(name, tmp_path):
    data, named = FOREIGN[name]
    (tmp_path / name).write_bytes(data)
    with refused(tmp_path / name, named, error=ReadError) as caught:
        read_image(tmp_path / name)
    assert ("unpack" in str(caught.value)) == (name == "a.zip")


def test_files_of_3d_go_to_the_readers_of_3d():
    for name in ("a.splat", "a.spz", "a.sog", "a.compressed.ply", "A.SOG"):
        assert modality_of(name) == "3d"


def test_the_opener_takes_only_the_formats_asked_for():
    with refused("xmp6.jpg", "PNG", "TIFF", error=ReadError), open_picture(IMAGE / "xmp6.jpg", formats=("PNG", "TIFF")):
        pass
    with open_picture(IMAGE / "cicp_pq.png", name="a depth map", formats=("PNG",)) as image:
        assert image.size == (40, 24)
    data = (IMAGE / "cicp_pq.png").read_bytes()
    with refused("a depth map", error=ReadError), open_picture(data[:200], name="a depth map") as image:
        image.load()


def test_rgba_is_neither_blended_nor_turned():
    pytest.importorskip("pylibjxl")
    rgba = read_rgba(IMAGE / "alpha.jxl")
    assert rgba.shape == (48, 64, 4)
    assert [value[3] for value in quarters(rgba)] == [255, 255, 0, 255]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_rgba(IMAGE / "xmp6.jpg")[..., 3].min() == 255


def test_a_wholly_transparent_picture_is_announced(tmp_path):
    Image.new("RGBA", (4, 4), (9, 9, 9, 0)).save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match=r"a\.png.*transparent"):
        assert (read_image(tmp_path / "a.png", background=(1, 2, 3)) == (1, 2, 3)).all()


def test_alpha_of_a_bmp_counts_where_one_pixel_has_some():
    head = bytearray((IMAGE / "bmp_v4_a0.bmp").read_bytes())
    offset = struct.unpack_from("<I", head, 10)[0]
    head[offset + 3] = 255  # of the first stored pixel, at the bottom left
    picture = read_image(bytes(head))
    assert (picture[0] == 255).all()
    assert picture[-1, 0].tolist() != [255, 255, 255]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
@pytest.mark.parametrize("name", ["phone.heic", "lossless.jxl"])
def test_a_forked_process_reads_too(name):
    pytest.importorskip("pi_heif" if name.endswith("heic") else "pylibjxl")
    text = f"""
import os, signal, warnings
warnings.simplefilter("ignore")
from atoken.media.image.files import read_image
first = read_image({str(IMAGE / name)!r})
child = os.fork()
if not child:
    signal.alarm(60)
    os._exit(0 if (read_image({str(IMAGE / name)!r}) == first).all() else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", text], timeout=600).returncode == 0
