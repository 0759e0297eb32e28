"""Animations as browsers show them: what is painted where, and exact times."""

import contextlib
import io
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atoken import open_video
from atoken.media.image.files import read_image
from atoken.media.kinds import modality_of
from atoken.media.video.animation import is_animation
from refusals import refused

INPUTS = Path(__file__).parent.parent / "data/inputs/image"
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
KEEP, CLEAR, RESTORE = range(3)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def idat(width: int, height: int, colour: tuple[int, ...]) -> bytes:
    return zlib.compress((b"\0" + bytes(colour) * width) * height)


def apng(frames, *, size=(8, 8), default=None, declared=None, common=b"") -> bytes:
    """Frames (box, RGBA, delay, disposal, blend): with `default` a picture of that colour before, which is none."""
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 6, 0, 0, 0)) + common
    data += chunk(b"acTL", struct.pack(">II", len(frames) if declared is None else declared, 0))
    if default:
        data += chunk(b"IDAT", idat(*size, default))
    number = 0
    for index, ((left, top, right, bottom), colour, delay, disposal, blend) in enumerate(frames):
        control = struct.pack(">IIIIIHHBB", number, right - left, bottom - top, left, top, *delay, disposal, blend)
        data += chunk(b"fcTL", control)
        pixels = idat(right - left, bottom - top, colour)
        if index or default:
            data += chunk(b"fdAT", struct.pack(">I", number + 1) + pixels)
            number += 1
        else:
            data += chunk(b"IDAT", pixels)
        number += 1
    return data + chunk(b"IEND", b"")


def gif(frames, *, screen=(8, 8), palette=(RED, GREEN, BLUE, WHITE), end=b";") -> bytes:
    """Frames (box, entry, delay in 1/100 s, disposal, transparent entry or None), uncompressed LZW."""
    data = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x81, 0, 0) + b"".join(bytes(c) for c in palette)
    for (left, top, right, bottom), entry, delay, disposal, clear in frames:
        flags = (disposal << 2) | (clear is not None)
        data += b"!\xf9\x04" + struct.pack("<BHB", flags, delay, clear or 0) + b"\0"
        data += b"," + struct.pack("<HHHHB", left, top, right - left, bottom - top, 0) + b"\x02"
        bits, count = "", (right - left) * (bottom - top)
        for _ in range(count):  # a clear code before each pixel keeps the codes at three bits
            bits = f"{entry:03b}" + "100" + bits
        bits = "101" + bits
        packed = int(bits, 2).to_bytes(-(-len(bits) // 8), "little")
        for at in range(0, len(packed), 255):
            block = packed[at : at + 255]
            data += bytes([len(block)]) + block
        data += b"\0"
    return data + end


def shown(path: Path, data: bytes, background=WHITE):
    path.write_bytes(data)
    return list(open_video(path, background=background))


def corners(pixels: np.ndarray) -> list[tuple[int, ...]]:
    """At the top left, in the middle, at the bottom right."""
    return [tuple(int(v) for v in pixels[at, at]) for at in (0, 4, 7)]


def test_apng_without_the_picture_that_is_no_frame(tmp_path):
    whole, part, delay = (0, 0, 8, 8), (2, 2, 6, 6), (1, 30)
    frames = [(part, (*GREEN, 255), delay, KEEP, 0), (whole, (*BLUE, 255), delay, KEEP, 0)]
    found = shown(tmp_path / "a.apng", apng(frames, default=(*RED, 255)))
    assert [corners(frame.pixels) for frame in found] == [[WHITE, GREEN, WHITE], [BLUE] * 3]
    assert modality_of(tmp_path / "a.apng") == "video"
    assert (read_image_quietly(tmp_path / "a.apng") == RED).all()  # a still picture for who asks for one


def read_image_quietly(path):
    with pytest.warns(UserWarning, match="frames"):
        return read_image(path)


@pytest.mark.parametrize(
    ("disposal", "blend", "expected"),
    [
        (KEEP, 0, [[RED] * 3, [RED, GREEN, RED], [BLUE, GREEN, RED]]),
        (CLEAR, 0, [[RED] * 3, [RED, GREEN, RED], [BLUE, WHITE, RED]]),
        (RESTORE, 1, [[RED] * 3, [RED, GREEN, RED], [BLUE, RED, RED]]),
    ],
)
def test_disposal_in_apng_and_gif(disposal, blend, expected, tmp_path):
    boxes = (0, 0, 8, 8), (2, 2, 6, 6), (0, 0, 2, 2)
    frames = [
        (box, (*colour, 255), (1, 10), how, blend)
        for box, colour, how in zip(boxes, (RED, GREEN, BLUE), (KEEP, disposal, KEEP), strict=True)
    ]
    assert [corners(frame.pixels) for frame in shown(tmp_path / "a.png", apng(frames))] == expected
    frames = [
        (box, entry, 10, how, None) for entry, (box, how) in enumerate(zip(boxes, (1, disposal + 1, 1), strict=True))
    ]
    assert [corners(frame.pixels) for frame in shown(tmp_path / "a.gif", gif(frames))] == expected


def test_half_transparent_apng_is_blended_once(tmp_path):
    whole = (0, 0, 8, 8)
    over = [(whole, (*RED, 255), (1, 10), KEEP, 0), (whole, (*BLUE, 51), (1, 10), KEEP, 1)]
    assert corners(shown(tmp_path / "a.png", apng(over))[1].pixels) == [(204, 0, 51)] * 3
    source = [over[0], (whole, (*BLUE, 51), (1, 10), KEEP, 0)]  # replaces the red: the background is seen through it
    assert corners(shown(tmp_path / "b.png", apng(source), (0, 255, 0))[1].pixels) == [(0, 204, 51)] * 3


@pytest.mark.parametrize("clear", [None, 3])
def test_a_gif_that_does_not_cover_its_screen(clear, tmp_path):
    frames = [((2, 2, 6, 6), 1, 10, 1, clear), ((6, 6, 8, 8), 2, 10, 1, clear)]
    for background in (WHITE, (1, 2, 3)):
        found = shown(tmp_path / "a.gif", gif(frames), background)
        expected = [[background, GREEN, background], [background, GREEN, BLUE]]
        assert [corners(frame.pixels) for frame in found] == expected
    still = gif(frames[:1])
    assert corners(read_image(still, background=(1, 2, 3))) == [(1, 2, 3), GREEN, (1, 2, 3)]


def test_the_gif_of_the_inputs():
    first = next(iter(open_video(INPUTS / "small_first.gif"))).pixels
    assert first[0, 0].tolist() == list(WHITE)
    assert first[3, 3].tolist() == list(GREEN)


def test_a_gif_frame_beyond_the_screen_is_cut_off(tmp_path):
    found = shown(tmp_path / "a.gif", gif([((0, 0, 8, 8), 0, 0, 0, None), ((4, 4, 20, 20), 1, 0, 0, None)]))
    assert corners(found[1].pixels) == [RED, GREEN, GREEN]
    found = shown(tmp_path / "b.gif", gif([((0, 0, 12, 12), 1, 0, 0, None)] * 2, screen=(8, 8)))
    assert found[0].pixels.shape == (12, 12, 3)  # the first one widens it


def test_times_are_those_of_the_file(tmp_path):
    times = [frame.time for frame in open_video(INPUTS / "anim2997.avif")]
    assert times == pytest.approx([index * 1001 / 30000 for index in range(120)], abs=1e-9)
    frames = [((0, 0, 8, 8), (*RED, 255), (1, 30), KEEP, 0)] * 90
    found = shown(tmp_path / "a.png", apng(frames))
    assert [frame.time for frame in found] == [float(Fraction(index, 30)) for index in range(90)]
    found = shown(tmp_path / "b.png", apng([(box, c, (7, 0), d, b) for box, c, _, d, b in frames[:3]]))
    assert [frame.time for frame in found] == [0, 0.07, 0.14]  # of nothing means of 100
    found = shown(tmp_path / "a.gif", gif([((0, 0, 8, 8), 0, delay, 0, None) for delay in (7, 0, 3)]))
    assert [(frame.time, frame.duration) for frame in found] == [(0, 0.07), (0.07, 0.1), (0.17, 0.03)]


def test_webp_and_avif_of_pillow_keep_their_times(tmp_path):
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE)]
    for kind in ("webp", "avif"):
        path = tmp_path / f"a.{kind}"
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=[40, 70, 25])
        assert is_animation(path)
        found = list(open_video(path))
        assert [frame.time for frame in found] == pytest.approx([0, 0.04, 0.11], abs=1e-9)
        assert [frame.duration for frame in found] == pytest.approx([0.04, 0.07, 0.025], abs=1e-9)


def test_what_is_no_animation(tmp_path):
    for name, data in {
        "a.gif": gif([((0, 0, 8, 8), 0, 0, 0, None)]),
        "b.gif": b"GIF89a",
        "c.gif": b"",
        "d.webp": b"RIFF\4\0\0\0WEBP",
        "e.avif": b"\0\0\0\x1cftypavis" + bytes(16),
        "f.gif": b"<html>",
    }.items():
        (tmp_path / name).write_bytes(data)
        assert not is_animation(tmp_path / name), name
    assert not is_animation(tmp_path / "missing.gif")
    assert not is_animation(tmp_path)


def test_damage_is_counted(tmp_path):
    frames = [((0, 0, 8, 8), (*colour, 255), (1, 10), KEEP, 0) for colour in (RED, GREEN, BLUE)]
    data = apng(frames)
    cut = data.rindex(b"fcTL")
    (tmp_path / "a.png").write_bytes(data[: cut - 4])
    with refused("a.png", "2 frames", "1 of 3 frames lost"):
        list(open_video(tmp_path / "a.png"))
    flipped = bytearray(data)
    flipped[data.rindex(b"fdAT") + 9] ^= 1  # its checksum notices
    (tmp_path / "b.png").write_bytes(flipped)
    with refused("b.png", "2 frames", "1 of 3 frames lost"):
        list(open_video(tmp_path / "b.png"))
    (tmp_path / "c.gif").write_bytes(gif([((0, 0, 8, 8), 0, 10, 0, None)] * 2, end=b""))
    with refused("c.gif", "2 frames", "end mark"):
        list(open_video(tmp_path / "c.gif"))
    with pytest.warns(UserWarning, match="end mark"):
        assert len(list(open_video(tmp_path / "c.gif", allow_partial=True))) == 2


def test_an_apng_turned_and_of_another_colour_space(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    common = chunk(b"eXIf", exif.tobytes()[6:]) + chunk(b"gAMA", struct.pack(">I", 100_000))
    frames = [((0, 0, 4, 2), (55, 55, 55, 255), (1, 10), KEEP, 0), ((0, 0, 1, 1), (*RED, 255), (1, 10), KEEP, 0)]
    found = shown(tmp_path / "a.png", apng(frames, size=(4, 2), common=common))
    assert found[1].pixels.shape == (4, 2, 3)
    assert np.argwhere(found[1].pixels[..., 1] == 0).tolist() == [[0, 1]]
    assert abs(int(found[0].pixels[0, 0, 0]) - 128) <= 1  # linear 55/255
    video = open_video(tmp_path / "a.png")
    assert video.frame_size == (4, 2)


def test_an_animated_hdr_avif_says_so(tmp_path):
    data = (INPUTS / "anim2997.avif").read_bytes()
    at = data.index(b"nclx") + 4
    (tmp_path / "a.avif").write_bytes(data[:at] + b"\0\x09\0\x10" + data[at + 4 :])
    with pytest.warns(UserWarning, match=r"a\.avif.*PQ"):
        open_video(tmp_path / "a.avif")


def test_gif_of_pillow_is_what_it_was(tmp_path):
    frames = [Image.fromarray(np.full((9, 7, 3), shade, np.uint8)) for shade in (10, 90, 200)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=50)
    found = shown(tmp_path / "a.gif", buffer.getvalue())
    assert [int(frame.pixels.mean()) for frame in found] == [10, 90, 200]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.gif", "a.png"])
@pytest.mark.filterwarnings("ignore")
def test_a_file_cut_anywhere_gives_the_frames_before(name, tmp_path):
    boxes = (0, 0, 8, 8), (2, 2, 6, 6), (0, 0, 2, 2)
    if name == "a.gif":
        data = gif([(box, entry, 10, 1, None) for entry, box in enumerate(boxes)])
    else:
        data = apng([(box, (*c, 255), (1, 10), KEEP, 0) for box, c in zip(boxes, (RED, GREEN, BLUE), strict=True)])
    whole = [corners(frame.pixels) for frame in shown(tmp_path / name, data)]
    counts = set()
    for length in range(len(data)):
        (tmp_path / name).write_bytes(data[:length])
        found = []
        with contextlib.suppress(ValueError):
            for frame in open_video(tmp_path / name, allow_partial=True):
                found.append(corners(frame.pixels))
        assert found == whole[: len(found)], length
        counts.add(len(found))
    assert counts >= {0, 1, 2, 3}
    (tmp_path / name).write_bytes(data[: len(data) * 3 // 4])
    if name == "a.gif":
        assert is_animation(tmp_path / name)
        assert corners(read_image(tmp_path / name)) == whole[0]
