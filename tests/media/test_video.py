"""Video files as frames: containers and codecs, times, orientation, depth, damage, and resampling on request."""

from __future__ import annotations

import gc
import warnings

import numpy as np
import pytest
from PIL import Image

from atoken.core.errors import ReadError
from atoken.media.kinds import modality_of
from atoken.media.video.frames import Clip, Frame, at_rate, target_size, tiles
from atoken.media.video.source import open_video
from refusals import refused

pytest.importorskip("av")

FILES = [
    ("a.mp4", "libx264", "yuv420p"),
    ("a.mov", "libx265", "yuv420p"),
    ("a.mkv", "libsvtav1", "yuv420p"),
    ("a.webm", "libvpx-vp9", "yuv420p"),
    ("a.avi", "mpeg4", "yuv420p"),
    ("a.ts", "libx264", "yuv420p"),
    ("a.mpg", "mpeg2video", "yuv420p"),
    ("a.flv", "libx264", "yuv420p"),
    ("a.wmv", "wmv2", "yuv420p"),
    ("b.mkv", "ffv1", "yuv420p"),
    ("b.webm", "libvpx", "yuv420p"),
    ("b.avi", "mjpeg", "yuvj420p"),
    ("b.mov", "prores_ks", "yuv422p10le"),
]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9)))


@pytest.mark.filterwarnings("ignore:.*bits a colour")
@pytest.mark.parametrize(("name", "codec", "pixels"), FILES)
def test_containers_and_codecs(film, name, codec, pixels):
    frames = film.frames()
    read = list(open_video(film.write(name, codec, frames, pixel_format=pixels)))
    assert [round(f.time, 6) for f in read] == [round(i / 25, 6) for i in range(10)]
    assert all(f.duration == pytest.approx(0.04) for f in read)
    assert psnr(np.stack([f.pixels for f in read]), frames) > 28
    nearest = [int(np.argmax([psnr(shown.pixels, frame) for frame in frames])) for shown in read]
    assert nearest == list(range(10))  # the right frame at each place


@pytest.mark.slow
def test_frames_are_freed_as_they_are_read(film):
    video = open_video(film.write("a.mp4", "libx264", film.frames(40)))
    gc.collect()
    gc.disable()  # memory that waits for the collector of cycles grows with the length
    try:
        pixels = [frame.pixels.nbytes for frame in video]
        waiting = [thing for thing in gc.get_objects() if type(thing).__name__ == "VideoFrame"]
    finally:
        gc.enable()
    assert len(pixels) == 40
    assert len(waiting) < 3


def test_read_again_from_the_start(film):
    video = open_video(film.write("a.mp4", "libx264"))
    first, second = list(video), list(video)
    assert len(first) == 10
    assert all(np.array_equal(a.pixels, b.pixels) and a.time == b.time for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("name", "codec"), [("v.mkv", "libx264"), ("v.mp4", "libx264"), ("v.webm", "libvpx-vp9")])
def test_variable_frame_rate(film, name, codec):
    times = [0, 40, 50, 210, 220, 490, 500, 900, 1000, 1333]
    read = list(open_video(film.write(name, codec, times=times)))
    assert [f.time for f in read] == pytest.approx([t / 1000 for t in times], abs=1e-9)
    assert [f.duration for f in read[:-1]] == pytest.approx(np.diff(times) / 1000)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_rotation(film, rotation, mirrored):
    frames = film.frames(2, 48, 64)
    video = open_video(film.write("r.mp4", "libx264", frames, rotation=rotation, mirrored=mirrored))
    upright = np.rot90(frames, rotation // 90, axes=(1, 2))  # the angle is counterclockwise
    upright = upright[:, :, ::-1] if mirrored else upright
    read = np.stack([f.pixels for f in video])
    assert read.shape == upright.shape
    assert psnr(read, upright) > 28
    assert (video.facts.height, video.facts.width) == read.shape[1:3]


@pytest.mark.parametrize(("name", "codec", "pixels"), [("o.webm", "libvpx-vp9", "yuv420p"), ("o.mkv", "ffv1", "bgr0")])
def test_odd_sizes(film, name, codec, pixels):
    frames = film.frames(5, 35, 51)
    read = np.stack([f.pixels for f in open_video(film.write(name, codec, frames, pixel_format=pixels))])
    assert read.shape == frames.shape
    assert np.array_equal(read, frames) or psnr(read, frames) > 28


def test_ten_bits_are_stated(film):
    path = film.write("t.mp4", "libx265", pixel_format="yuv420p10le")
    with pytest.warns(UserWarning, match="10 bits"):
        read = list(open_video(path))
    assert read[0].pixels.dtype == np.uint8


def test_interlaced_is_stated(film):
    path = film.write("i.ts", "mpeg2video", film.frames(10, 64, 64), interlaced=True)
    with pytest.warns(UserWarning, match="interlaced"):
        assert len(list(open_video(path))) == 10


def test_one_frame(film):
    (frame,) = open_video(film.write("one.mp4", "libx264", film.frames(1)))
    assert frame.time == 0
    assert frame.pixels.shape == (48, 64, 3)


@pytest.mark.parametrize("suffix", ["gif", "webp", "avif", "png"])
def test_animations(film, suffix):
    frames, path = film.frames(4), film.folder / f"a.{suffix}"
    pictures = [Image.fromarray(f) for f in frames]
    durations = [100, 200, 50, 300]
    extra = {"lossless": True} if suffix == "webp" else {}
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, **extra)
    read = list(open_video(path))
    assert [f.time for f in read] == pytest.approx([0, 0.1, 0.3, 0.35])
    assert read[-1].duration == pytest.approx(0.3)
    assert psnr(np.stack([f.pixels for f in read]), frames) > 28


@pytest.mark.parametrize(
    ("name", "codec", "off"),  # Matroska and WebM tell the duration, not the number
    [("d.mp4", "libx264", 0), ("d.avi", "mpeg4", 0), ("d.mkv", "libx264", 3), ("d.webm", "libvpx-vp9", 3)],
)
@pytest.mark.parametrize("how", ["cut", "hole"])
def test_damage(film, name, codec, off, how):
    frames = film.frames(60, 64, 96)
    flags = {"movflags": "faststart"} if name.endswith("mp4") else {}
    path = film.write(name, codec, frames, container=flags, options={"b": "2M"} if codec == "mpeg4" else {})
    data = path.read_bytes()
    middle = len(data) * 6 // 10
    path.write_bytes(data[:middle] if how == "cut" else data[:middle] + bytes(200) + data[middle + 200 :])
    with refused(path, "damaged", "--allow-partial"):
        list(open_video(path))
    video = open_video(path, allow_partial=True)
    with pytest.warns(UserWarning, match="damaged"):
        read = list(video)
    assert 5 < len(read) < 60
    assert video.damage is not None
    assert video.damage.frames == len(read)
    assert video.damage.lost == pytest.approx(60 - len(read), abs=off)
    assert min(psnr(f.pixels, frames[round(f.time * 25)]) for f in read) > 22  # nothing concealed among them


@pytest.mark.parametrize(("name", "codec"), [("d.m1v", "mpeg1video"), ("d.ogv", "libvpx")])
def test_damage_where_nothing_counts_the_frames(film, name, codec):
    path = film.write(name, codec, film.frames(60, 64, 96))
    assert len(list(open_video(path))) == 60
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with refused(path, "damaged", "unknown number"):
        list(open_video(path))


def test_cut_gif(film):
    path = film.folder / "a.gif"
    pictures = [Image.fromarray(f) for f in film.frames(6)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=40)
    path.write_bytes(path.read_bytes()[:-2000])
    with refused(path, "unknown number"):
        list(open_video(path))


@pytest.mark.slow
def test_no_cut_of_an_animation_passes(film):
    pictures = [Image.fromarray(f) for f in film.frames(4, 16, 16)]
    for suffix in (".gif", ".webp", ".avif", ".png"):
        path = film.folder / f"a{suffix}"
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=40)
        data = path.read_bytes()
        behind_first = len(data) // 3
        step = 1 if suffix == ".gif" else 41  # cut anywhere, Pillow raises IndexError and struct.error too
        for length in range(1, len(data) - 12, step):
            path.write_bytes(data[:length])
            with refused(path):
                list(open_video(path))
            if suffix == ".gif":
                assert modality_of(path) == "video" or length < behind_first


def test_an_animation_of_impossible_size(film):
    path = film.folder / "a.gif"
    Image.fromarray(film.frames(1)[0]).save(path)
    data = bytearray(path.read_bytes())
    data[6:10] = b"\xff" * 4
    path.write_bytes(data)
    assert modality_of(path) == "image"
    with refused(path, 65535 * 65535, "max_pixels"):
        open_video(path)


def test_an_mp4_of_fragments_cut_in_the_header_of_one(film):
    options = {"movflags": "frag_keyframe+empty_moov"}
    path = film.write("a.mp4", "libx264", film.frames(30), options={"g": "10"}, container=options)
    data = path.read_bytes()
    assert len(list(open_video(path))) == 30
    path.write_bytes(data[: data.rfind(b"moof") + 20])
    with refused(path, "ends early"):
        list(open_video(path))


def test_a_raw_stream_is_shown_at_its_rate(film):
    for name, codec in [("a.m1v", "mpeg1video"), ("a.h264", "libx264")]:
        read = list(open_video(film.write(name, codec, film.frames(40))))
        assert [f.time for f in read] == pytest.approx([i / 25 for i in range(40)]), name


def test_not_a_video(film, tmp_path):
    faults = {
        "empty.mp4": (b"", "empty"),
        "text.mp4": (b"these are words, not pictures\n" * 100, "not a video"),
        "text.txt": (b"these are words, not pictures\n" * 100, "not a video"),
        "noise.mkv": (np.random.default_rng(0).bytes(5000), "not a video"),
    }
    for name, (data, what) in faults.items():
        (tmp_path / name).write_bytes(data)
        with refused(tmp_path / name, what, error=ReadError):
            open_video(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        open_video(tmp_path / "none.mp4")
    cut = film.write("late.mp4", "libx264")
    cut.write_bytes(cut.read_bytes()[:600])  # the index was at the end
    with refused(cut, "truncated", error=ReadError):
        open_video(cut)


def test_audio_file(film):
    import av

    path = film.write("a.mkv", "libx264", audio="aac")
    assert open_video(path).facts.audio == "aac"
    only = film.folder / "sound.m4a"
    with av.open(str(path)) as source, av.open(str(only), "w", format="mp4") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    with refused(only, "audio"):
        open_video(only)


def test_start_and_end(film):
    path = film.write("a.mp4", "libx264", film.frames(50))
    read = list(open_video(path, start=0.4, end=1.0))
    assert [round(f.time * 25) for f in read] == list(range(10, 25))
    with refused(path, "5 s"):
        list(open_video(path, start=5))


@pytest.mark.parametrize(("name", "codec"), [("l.mp4", "libx264"), ("l.mkv", "libx264"), ("l.avi", "mpeg4")])
def test_far_start_is_sought(film, name, codec):
    frames = film.frames(300, 16, 32, top=0)[:, :, :, :]
    path = film.write(name, codec, frames, options={"g": "25"})
    whole = [f for f in open_video(path) if f.time >= 11]
    sought = list(open_video(path, start=11))
    assert [f.time for f in sought] == [f.time for f in whole]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(sought, whole, strict=True))


def test_a_start_that_cannot_be_sought(film, monkeypatch):
    monkeypatch.setattr("atoken.media.video.pyav.SEEK_FROM", 1.0)
    path = film.write("l.ts", "libx264", film.frames(100), options={"g": "40"})  # seeking lands behind the start
    assert [round(f.time * 25) for f in open_video(path, start=2)] == list(range(50, 100))


@pytest.mark.parametrize(("name", "codec"), [("l.mkv", "libx264"), ("l.webm", "libvpx"), ("l.ogv", "libvpx")])
def test_a_cut_is_noticed_from_a_far_start_too(film, monkeypatch, name, codec):
    monkeypatch.setattr("atoken.media.video.pyav.SEEK_FROM", 1.0)
    path = film.write(name, codec, film.frames(100), options={"g": "20"})
    assert len(list(open_video(path, start=2))) == 50
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])
    with refused(path, "ends early"):
        list(open_video(path, start=2))
    assert len(list(open_video(path, start=2, end=2.4))) == 10  # what is behind the end is not looked at


def test_resampled_rate_and_size(film):
    path = film.write("a.mp4", "libx264", film.frames(25))
    read = list(open_video(path, fps=10, size=24))
    assert [f.time for f in read] == pytest.approx(np.arange(10) / 10)
    assert read[0].pixels.shape == (24, 32, 3)
    assert open_video(path, size=(20, 30)).frame_size == (20, 30)
    for old, size, new in [((272, 640), 128, (128, 302)), ((640, 272), 128, (302, 128)), ((7, 7), 5, (5, 5))]:
        assert target_size(old, size) == new


def test_rate_shows_what_is_on_screen():
    shown = [Frame(t, np.full((1, 1, 3), i, np.uint8)) for i, t in enumerate([0, 0.1, 0.35, 1.0])]
    read = list(at_rate(shown, 4))
    assert [f.time for f in read] == [0, 0.25, 0.5, 0.75, 1.0]
    assert [int(f.pixels[0, 0, 0]) for f in read] == [0, 1, 2, 2, 3]


def test_no_tick_at_the_end_or_behind(film):
    path = film.write("a.mkv", "libx264", film.frames(4), times=[0, 1000, 2000, 3000])
    assert [f.time for f in open_video(path, end=1.5, fps=4)] == [0, 0.25, 0.5, 0.75, 1, 1.25]


def test_bad_requests(film):
    path = film.write("a.mp4", "libx264")
    for options, named in [
        ({"fps": 0}, ("fps", 0)),
        ({"start": -1}, ("start", -1)),
        ({"start": 2, "end": 1}, ("end", 1)),
        ({"size": 0}, ("size", 0)),
        ({"max_pixels": 100}, (path, 100, "--max-pixels")),
        ({"size": 100_000}, ("size", 100_000, "133334x100000")),
    ]:
        with refused(*named):
            open_video(path, **options)


def test_quiet_for_an_ordinary_file(film):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frames = list(open_video(film.write("a.mp4", "libx264")))
    assert len(frames) == 10


def test_clip():
    frames = np.zeros((3, 2, 2, 3), np.uint8)
    assert [f.time for f in Clip(frames, fps=10)] == [0, 0.1, 0.2]
    assert [f.time for f in Clip(list(frames), times=[1, 2, 4])] == [1, 2, 4]
    for make, named in [
        (lambda: Clip(frames), ("fps=", "times=")),
        (lambda: Clip(frames, fps=-1), ("fps", -1)),
        (lambda: Clip(frames, times=[1, 1, 2]), ("ascend",)),
        (lambda: Clip(frames, times=[0, float("nan"), 1]), ("ascend",)),
        (lambda: Clip(frames, times=[0, 1, float("inf")]), ("ascend",)),
        (lambda: list(Clip(frames, times=[1, 2])), ("more frames",)),
        (lambda: list(Clip(frames, times=[1, 2, 3, 4])), ("fewer frames",)),
        (lambda: list(Clip([f.astype(float) for f in frames], fps=1)), ("frame 0", "float64")),
    ]:
        with refused(*named):
            make()


def test_tiles():
    frames = np.arange(7, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    assert [len(tile) for tile in tiles(Clip(frames, fps=1), 3)] == [3, 3, 1]
    other = [Frame(0, np.zeros((2, 3, 3), np.uint8)), Frame(1, np.zeros((3, 2, 3), np.uint8))]
    with refused("frame 1", "2x3", "3x2"):
        list(tiles(other, 4))
