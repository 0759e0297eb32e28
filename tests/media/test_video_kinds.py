"""Kinds of clips that users report: edit lists, stale tags, joined streams, repeated stamps, odd matrices, covers."""

from __future__ import annotations

import errno
import re
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from test_video import psnr

from atoken.core.errors import ReadError
from atoken.media.video.frames import Clip
from atoken.media.video.pyav import ffmpeg_reading
from atoken.media.video.soundtrack import Soundtrack
from atoken.media.video.source import open_video
from atoken.media.video.writer import VideoWriter, write_video
from refusals import check_names, refused

av = pytest.importorskip("av")
INPUTS = Path(__file__).parents[1] / "data/inputs"


def times_of(path, **options):
    return [round(frame.time, 6) for frame in open_video(path, **options)]


def steady(count, step=0.04):
    return [round(index * step, 6) for index in range(count)]


@pytest.mark.parametrize(("name", "shown"), [("edit_mid", 30), ("edit_head", 30), ("trim_start", 62)])
def test_an_edit_list_hides_frames_that_the_header_counts(name, shown):
    path = INPUTS / f"video/{name}.mp4"
    assert times_of(path) == steady(shown)
    assert open_video(path).facts.frames == shown  # an estimate that knows the edit list


@pytest.mark.parametrize(
    "tag", ["00:00:09.000000000", "00:00:00.100000000", "N/A               ", "99:99:99.99999999x"]
)
def test_a_duration_tag_is_a_hint(film, tag):
    path = film.write("a.mkv", "libx264", film.frames(25))
    data = path.read_bytes()
    found = list(re.finditer(rb"\d\d:\d\d:\d\d\.\d{9}", data))
    assert found
    for match in found:
        data = data[: match.start()] + tag.ljust(18).encode() + data[match.end() :]
    path.write_bytes(data)
    assert times_of(path) == steady(25)
    assert times_of(INPUTS / "video/d_stale.mkv") == steady(25)


def test_too_many_frames_in_a_header_are_no_damage(film):
    path = film.write("a.avi", "mpeg4", film.frames(20))
    data = bytearray(path.read_bytes())
    for at in (data.index(b"avih") + 24, data.index(b"strh") + 40):  # frames of the file, length of the stream
        data[at : at + 4] = (500).to_bytes(4, "little")
    path.write_bytes(data)
    assert times_of(path) == steady(20)


def test_a_cut_file_whose_last_box_is_open(film):
    path = film.write("a.mp4", "libx264", film.frames(60, 64, 96), container={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    at = data.index(b"mdat") - 4
    data[at : at + 4] = bytes(4)  # it goes to the end of the file, wherever that is
    path.write_bytes(data)
    assert len(times_of(path)) == 60
    path.write_bytes(data[: len(data) * 8 // 10])
    with refused(path, "damaged", error=ReadError):
        times_of(path)


def test_a_hole_in_a_matroska_file_is_found_without_a_duration(film):
    path = film.write("a.webm", "libvpx-vp9", film.frames(60, 64, 96), container={"live": "1"})
    data = path.read_bytes()
    assert len(times_of(path)) == 60
    path.write_bytes(data[: len(data) * 6 // 10] + bytes(200) + data[len(data) * 6 // 10 + 200 :])
    with refused(path, "damaged", error=ReadError):
        times_of(path)
    path.write_bytes(data[:-300])
    with refused(path, "damaged", error=ReadError):
        times_of(path)


def joined(film, name, parts, codec="libx264", **options):
    path = film.folder / name
    path.write_bytes(
        b"".join(
            film.write(f"part{index}{name}", codec, frames, **options).read_bytes()
            for index, frames in enumerate(parts)
        )
    )
    return path


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(50, 50), (50, 20, 3), (4, 60)])
@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_joined_transport_streams(film, counts, codec):
    parts = [film.frames(count, left=100 + 30 * index) for index, count in enumerate(counts)]
    path = joined(film, "j.ts", parts, codec, audio="aac")
    with pytest.warns(UserWarning, match="jump"):
        read = list(open_video(path))
    assert [round(frame.time, 5) for frame in read] == pytest.approx(steady(sum(counts)), abs=1e-4)
    assert psnr(np.stack([frame.pixels for frame in read]), np.concatenate(parts)) > 26


def test_the_joined_stream_that_was_reported():
    with pytest.warns(UserWarning, match="jump"):
        assert times_of(INPUTS / "video/tscat.ts") == steady(100)


def test_sound_of_joined_streams_goes_on_too(film):
    path = joined(film, "j.ts", [film.frames(50), film.frames(50)], audio="mp2")
    out = film.folder / "o.mkv"
    with pytest.warns(UserWarning, match="jump"):
        write_video(out, open_video(path), soundtrack=Soundtrack(path))
    with av.open(str(out)) as container:
        stamps = [packet.pts * packet.time_base for packet in container.demux(audio=0) if packet.size]
    assert all(b > a for a, b in pairwise(stamps))
    assert float(stamps[-1]) == pytest.approx(4, abs=0.3)


def test_packets_lost_from_a_transport_stream_are_damage(film):
    path = film.write("l.ts", "libx264", film.frames(60, 64, 96), options={"g": "60"})
    packets = [path.read_bytes()[at : at + 188] for at in range(0, path.stat().st_size, 188)]
    of_video = [number for number, (_, high, low, *_) in enumerate(packets) if high & 0x1F == 1 and low == 0]  # PID 256
    lost = of_video[len(of_video) * 6 // 10 :][:2]  # a lost table of contents would be no damage
    path.write_bytes(b"".join(packet for number, packet in enumerate(packets) if number not in lost))
    with refused(path, "damaged", error=ReadError):
        times_of(path)


def test_repeated_stamps_do_not_push_their_neighbours():
    read = times_of(INPUTS / "video/one_dup.mkv")
    assert read == sorted([*steady(22), 0.06])
    many = times_of(INPUTS / "video/dupstamps.mkv")
    assert set(steady(90)) < set(many)
    assert (len(many), many[-1]) == (100, 3.56)


def test_a_matrix_that_is_not_converted_is_named():
    path = INPUTS / "video/ycgco.mp4"
    with pytest.warns(UserWarning, match=r"YCgCo.*BT\.709"):
        assert len(list(open_video(path))) == 100


@pytest.mark.parametrize("matrix", range(18))
def test_every_colour_matrix(film, matrix):
    """Converted without a word, or read as BT.709 with its name; never an error of FFmpeg."""
    frames = film.frames(2)
    path = film.folder / "m.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv444p"
        stream.codec_context.colorspace = matrix
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))
            frame = frame.reformat(format="yuv444p", dst_colorspace=1)
            frame.colorspace = matrix
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    if matrix in (0, 1, 2, 3, 4, 5, 6, 7, 9):
        read = list(open_video(path))
    else:
        with pytest.warns(UserWarning, match=r"matrix.*BT\.709"):
            read = list(open_video(path))
    if matrix not in (0, 2, 3, 4, 5, 6, 7, 9):  # those are of other matrices than the picture was made with
        assert psnr(np.stack([frame.pixels for frame in read]), frames) > 35


@pytest.mark.parametrize("name", ["damaged_first_packet.rm", "damaged_first_frame.ivf"])
def test_damage_before_the_first_frame(name):
    with refused(INPUTS / "broken" / name, error=ReadError):
        open_video(INPUTS / "broken" / name)


def test_damage_of_raw_pictures_in_the_first_packet(film):
    path = film.write("a.y4m", "wrapped_avframe")
    data = path.read_bytes()
    at = data.index(b"FRAME")
    path.write_bytes(data[:at] + b"FRANE" + data[at + 5 :])
    with refused(path, error=ReadError):
        list(open_video(path))


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EIO, errno.ENOENT, errno.EPERM, errno.ENOSPC])
def test_no_error_of_ffmpeg_passes_for_one_of_the_disk(number):
    with refused("clip.mp4", error=ReadError) as caught, ffmpeg_reading(Path("clip.mp4")):
        av.error.err_check(-number)
    assert not isinstance(caught.value, OSError)


def test_writing_too(film, monkeypatch):
    for number in (errno.EOPNOTSUPP, errno.EIO, errno.EPERM):
        with refused("w.mp4"), VideoWriter(film.folder / "w.mp4") as writer:
            writer.write_all(Clip(film.frames(2), fps=25))
            av.error.err_check(-number)
    assert list(film.folder.iterdir()) == []


def two_streams(film, *, default):
    """A file whose first stream of pictures is grey and whose second one shows the photograph, both with a sound."""
    path = film.folder / "two.mkv"
    with av.open(str(path), "w") as output:
        streams = [output.add_stream("ffv1", rate=25) for _ in range(2)]
        for index, stream in enumerate(streams):
            stream.height, stream.width, stream.pix_fmt = 48, 64, "bgr0"
            stream.disposition = av.stream.Disposition.default if index == default else 0
        for number, pixels in enumerate(film.frames(5)):
            for index, stream in enumerate(streams):
                shown = pixels if index else np.full_like(pixels, 128)
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(shown)).reformat(format="bgr0")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                output.mux(stream.encode(frame))
        for stream in streams:
            output.mux(stream.encode())
    return path


@pytest.mark.parametrize("default", [0, 1])
def test_the_default_stream_of_several(film, default):
    read = np.stack([frame.pixels for frame in open_video(two_streams(film, default=default))])
    expected = film.frames(5)
    assert np.array_equal(read, expected if default else np.full_like(expected, 128))


def test_sound_lies_beside_the_pictures_that_are_read(film):
    """Another stream of pictures begins at 0, the default one and its sound a second later."""
    source, path = film.write("s.mp4", "libx264", film.frames(50), audio="aac"), film.folder / "two.mkv"
    with av.open(str(source)) as given, av.open(str(path), "w") as output:
        other = output.add_stream("mjpeg", rate=25)
        other.height, other.width, other.pix_fmt, other.disposition = 48, 64, "yuvj420p", 0
        copies = {s.index: output.add_stream_from_template(s) for s in (given.streams.video[0], given.streams.audio[0])}
        copies[given.streams.video[0].index].disposition = av.stream.Disposition.default
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(film.frames(1)[0])).reformat(format="yuvj420p")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        output.mux([*other.encode(frame), *other.encode()])
        for packet in given.demux():
            if packet.size:
                shift = round(1 / packet.time_base)
                packet.stream = copies[packet.stream.index]
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                output.mux(packet)
    assert len(times_of(path)) == 50
    write_video(film.folder / "o.mkv", open_video(path), soundtrack=Soundtrack(path))
    with av.open(str(film.folder / "o.mkv")) as container:
        first = next(packet for packet in container.demux(audio=0) if packet.size)
    assert float(first.pts * first.time_base) == pytest.approx(0, abs=0.05)


def test_the_source_of_a_sound_is_named_when_it_cannot_be_read(film):
    path = film.folder / "s.mkv"
    path.write_bytes(b"no clip" * 100)
    with refused(path, error=ReadError):
        write_video(film.folder / "w.mkv", Clip(film.frames(2), fps=25), soundtrack=Soundtrack(path))


def test_a_frame_that_grows_beyond_the_limit(film):
    small, large = (
        film.write("s.h264", "libx264", film.frames(5)),
        film.write("l.h264", "libx264", film.frames(5, 96, 128)),
    )
    path = film.folder / "both.h264"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    with refused(path, "--max-pixels", error=ReadError):
        list(open_video(path, max_pixels=5000))


def test_the_same_frames_are_the_same_bytes(film):
    for suffix in ("mkv", "webm", "mp4"):
        files = []
        for _ in range(2):
            write_video(film.folder / f"w.{suffix}", Clip(film.frames(4), fps=25))
            files.append((film.folder / f"w.{suffix}").read_bytes())
        assert files[0] == files[1], suffix


@pytest.mark.slow
def test_no_memory_that_was_never_written_is_read(film):
    """glibc fills freed memory with MALLOC_PERTURB_; x264's macroblock tree let it decide."""
    import os
    import subprocess
    import sys

    code = (
        "import sys, hashlib, numpy as np\n"
        "from atoken import Clip\n"
        "from atoken.media.video.writer import write_video\n"
        "frames = np.load(sys.argv[1])\n"
        "write_video(sys.argv[2], Clip(frames, fps=25))\n"
        "print(hashlib.sha256(open(sys.argv[2], 'rb').read()).hexdigest())\n"
    )
    np.save(film.folder / "frames.npy", film.frames(10, 18, 34))
    found = set()
    for fill in ("0", "85", "170"):
        arguments = [sys.executable, "-c", code, str(film.folder / "frames.npy"), str(film.folder / "w.mp4")]
        environment = {**os.environ, "MALLOC_PERTURB_": fill}
        found.add(subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(found) == 1


def test_what_is_lost_is_said_as_an_estimate(film):
    path = film.write("a.mp4", "libx264", film.frames(60), container={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(ReadError) as caught:
        list(open_video(path))
    check_names(str(caught.value), path, "of 60 frames", "header")
