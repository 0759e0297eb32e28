"""Frames into video files: formats, times, exactness, sound, and all or nothing."""

from __future__ import annotations

import errno

import numpy as np
import pytest
from test_video import psnr

from atoken.media.video.frames import Clip
from atoken.media.video.soundtrack import Soundtrack
from atoken.media.video.source import open_video
from atoken.media.video.writer import write_video
from refusals import refused

av = pytest.importorskip("av")

TIMES = [1.0, 1.04, 1.05, 1.21, 1.22, 1.49, 1.5, 1.9]


def read(path):
    frames = list(open_video(path))
    return np.stack([f.pixels for f in frames]), [f.time for f in frames]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm", "gif"])
@pytest.mark.parametrize("size", [(48, 64), (35, 51)])
def test_formats(film, suffix, size):
    frames, path = film.frames(8, *size), film.folder / f"w.{suffix}"
    write_video(path, Clip(frames, times=TIMES))
    pixels, times = read(path)
    assert pixels.shape == frames.shape
    assert psnr(pixels, frames) > 28
    assert times == pytest.approx([t - 1 for t in TIMES], abs=1e-9)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
@pytest.mark.parametrize("size", [(48, 64), (35, 51)])
def test_lossless(film, suffix, size):
    frames, path = film.frames(8, *size), film.folder / f"w.{suffix}"
    write_video(path, Clip(frames, fps=30), lossless=True)
    assert np.array_equal(read(path)[0], frames)


@pytest.mark.parametrize("rate", [24, 25, 30, 60, 24000 / 1001, 30000 / 1001])
def test_rates_are_exact(film, rate):
    frames, path = film.frames(12, 16, 16), film.folder / "w.mp4"
    write_video(path, Clip(frames, fps=rate), fps=rate)
    assert read(path)[1] == pytest.approx(np.arange(12) / rate, abs=1e-7)


def test_ordinary_mp4_plays_everywhere(film):
    path = film.folder / "w.mp4"
    write_video(path, Clip(film.frames(), fps=25))
    facts = open_video(path).facts
    assert (facts.codec, facts.pixel_format) == ("h264", "yuv420p")
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # a browser can begin before it has all


def test_colours_survive(film):
    colours = np.zeros((1, 48, 48, 3), np.uint8)
    for column, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (90, 60, 200)]):
        colours[:, :, column * 8 : column * 8 + 8] = colour
    path = film.folder / "w.mp4"
    write_video(path, Clip(colours.repeat(3, 0), fps=25), quality=5)
    shown = read(path)[0][1, 20, 4::8].astype(int)  # the middle of each bar
    assert np.abs(shown - colours[0, 20, 4::8].astype(int)).max() <= 6


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "aac"), ("mkv", "aac"), ("webm", "libopus")])
def test_sound_is_copied(film, suffix, codec):
    source = film.write("s.mkv", "libx264", film.frames(50), audio=codec)
    path = film.folder / f"w.{suffix}"
    write_video(path, open_video(source, start=0.4), soundtrack=Soundtrack(source))
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(audio=0) if p.size]
        first, last = (float(p.pts * p.time_base) for p in (packets[0], packets[-1]))
    assert 0 <= first < 0.05
    assert last == pytest.approx(1.6, abs=0.06)
    assert len(read(path)[1]) == 40


def test_no_sound_to_keep(film):
    source = film.write("s.mkv", "libx264")
    with refused(source, "sound"):
        write_video(film.folder / "w.mp4", open_video(source), soundtrack=Soundtrack(source))
    assert not (film.folder / "w.mp4").exists()


def test_the_file_of_the_sound_is_closed(film):
    source = film.write("s.mkv", "libx264", audio="aac")
    closed = []

    class Noting(Soundtrack):
        def attach(self, output, start):
            copy = super().attach(output, start)
            close = copy.close
            copy.close = lambda: closed.append(1) or close()
            return copy

    write_video(film.folder / "w.mkv", open_video(source), soundtrack=Noting(source))
    with refused("w.mov"):
        write_video(
            film.folder / "w.mov",
            open_video(film.write("o.mkv", "libx264", audio="libopus")),
            soundtrack=Noting(film.folder / "o.mkv"),
        )
    assert len(closed) == 2


def test_a_folder_named_like_a_protocol(film, monkeypatch):
    monkeypatch.chdir(film.folder)
    write_video("take:2/w.mp4", Clip(film.frames(4), fps=25))
    assert len(list(open_video("take:2/w.mp4"))) == 4


def test_all_or_nothing(film):
    path = film.folder / "w.mp4"
    path.write_bytes(b"old")

    def interrupted():
        yield from Clip(film.frames(4), fps=25)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_video(path, interrupted())
    assert path.read_bytes() == b"old"
    assert [p.name for p in film.folder.iterdir()] == ["w.mp4"]


@pytest.mark.parametrize("lossless", [False, True])
def test_a_disk_that_takes_no_more(film, lossless):
    resource = pytest.importorskip("resource")
    path, limits = film.folder / "out/a.mp4", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"a\.mp4") as caught:
            write_video(path, Clip(film.frames(60), fps=25), lossless=lossless)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (caught.value.filename, caught.value.errno) == (str(path), errno.EFBIG)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("w.avi", {}, ".mkv"),
        ("w.gif", {"lossless": True}, "lossless"),
        ("w.mp4", {"frames": []}, "no frame"),
    ],
)
def test_refused(film, name, options, named):
    frames = options.pop("frames", film.frames(2))
    with refused(name, named):
        write_video(film.folder / name, Clip(frames, fps=25), **options)
    assert not (film.folder / name).exists()


@pytest.mark.parametrize(
    ("name", "frames", "times", "named"),
    [
        ("w.gif", (4, 16, 16), [0, 0.004, 0.008, 0.012], "0.01 s"),
        ("w.webm", (3, 16, 16), [0, 0.0001, 0.0002], "0.001 s"),
        ("w.mp4", (6, 16, 16), [0, 0.04, 0.08, 0.12, 500, 500.04], "another format"),
        ("w.mkv", (1, 8, 16400), [0], "another format"),
    ],
)
def test_what_a_format_cannot_hold_is_one_sentence(film, name, frames, times, named):
    with refused(name, named):
        write_video(film.folder / name, Clip(np.zeros((*frames, 3), np.uint8), times=times))
    assert list(film.folder.iterdir()) == []


def test_one_size(film):
    with refused("w.mp4", "(32, 32)"):
        write_video(film.folder / "w.mp4", Clip([film.frames(1)[0], film.frames(1, 32, 32)[0]], fps=25))
