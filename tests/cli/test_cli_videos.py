"""Videos on the command line: with pictures in one command, resampled on request, damaged, with sound."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from PIL import Image

import atoken as library
from atoken import Tokens, open_video, read_image
from atoken.pipeline import video_files as videos

av = pytest.importorskip("av")


def read(path):
    frames = list(open_video(path))
    return np.stack([f.pixels for f in frames]), [f.time for f in frames]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_pictures_and_videos_in_one_command(atoken, tiny, film, picture, tmp_path, kind):
    (tmp_path / "in").mkdir()
    picture(tmp_path / "in/a.png")
    film.folder = tmp_path / "in"
    clip = film.write("clip.mkv", "libx264", times=[0, 40, 50, 200, 300, 420, 500, 600, 610, 900])
    frames = [Image.fromarray(f) for f in film.frames(6)]
    frames[0].save(tmp_path / "in/anim.gif", save_all=True, append_images=frames[1:], duration=70)
    frames[0].save(tmp_path / "in/still.gif")
    common = "--model", tiny, "--out"
    result = atoken("encode", tmp_path / "in", "--kind", kind, *common, tmp_path / "tokens")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("4 written, ")
    result = atoken("decode", tmp_path / "tokens", *common, tmp_path / "out", "--lossless")
    assert result.exit_code == 0, result.output
    names = sorted(path.name for path in (tmp_path / "out").iterdir() if path.name[0] != ".")
    assert names == ["a.png", "anim.mp4", "clip.mp4", "still.png"]
    model = library.load(tiny)
    pixels, times = read(tmp_path / "out/clip.mp4")
    assert np.array_equal(pixels, model.decode(model.encode(clip, kind=kind).half()))
    assert times == pytest.approx([0, 0.04, 0.05, 0.2, 0.3, 0.42, 0.5, 0.6, 0.61, 0.9])
    assert len(read(tmp_path / "out/anim.mp4")[0]) == 6
    assert read_image(tmp_path / "out/a.png").shape == (20, 33, 3)
    again = atoken("encode", tmp_path / "in", "--kind", kind, *common, tmp_path / "tokens")
    assert again.stdout.startswith("0 written, 4 skipped")


@pytest.mark.slow
def test_reconstruct(atoken, tiny, film, tmp_path):
    path = film.write("clip.mp4", "libx264", film.frames(20))
    result = atoken(
        "reconstruct", path, "--model", tiny, "--out", tmp_path / "out", "--video-format", "mkv", "--lossless"
    )
    assert result.exit_code == 0, result.output
    model = library.load(tiny)
    decoded = model.decode(model.encode(path))
    pixels, times = read(tmp_path / "out/clip.reconstructed.mkv")
    assert np.array_equal(pixels, decoded)
    assert times == pytest.approx([i / 25 for i in range(20)])
    originals = read(path)[0].astype(float)
    scores = 10 * np.log10(255**2 / ((decoded - originals) ** 2).mean((1, 2, 3)))
    assert f"{scores.mean():.2f}" in result.stdout
    assert "20 x 64x48" in result.stdout


@pytest.mark.slow
def test_resampling(atoken, tiny, film, tmp_path):
    path = film.write("clip.mp4", "libx264", film.frames(50))
    options = ["--fps", "10", "--size", "32", "--start", "0.4", "--end", "1.4"]
    result = atoken("encode", path, "--model", tiny, "--out", tmp_path / "x.atok", *options)
    assert result.exit_code == 0, result.output
    tokens = Tokens.load(tmp_path / "x.atok")
    assert tokens.size == (32, 42)
    assert tokens.times.tolist() == pytest.approx([0.4 + i / 10 for i in range(10)])
    result = atoken("encode", path, "--model", tiny, "--out", tmp_path / "y.atok", "--size", "40x24")
    assert Tokens.load(tmp_path / "y.atok").size == (24, 40)
    assert atoken("encode", path, "--size", "big").exit_code == 2


def test_requests_for_videos_alone(atoken, tiny, picture, tmp_path):
    result = atoken("encode", picture(tmp_path / "a.png"), "--model", tiny, "--fps", "5")
    assert result.exit_code == 2
    assert "--fps" in result.stderr


@pytest.mark.slow
def test_damage(atoken, tiny, film, picture, tmp_path):
    path = film.write("clip.mp4", "libx264", film.frames(60), container={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    fine = picture(tmp_path / "a.png")
    common = "--model", tiny, "--out", tmp_path / "out"
    result = atoken("encode", path, fine, *common)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "of 60 frames" in result.stderr
    assert [p.name for p in (tmp_path / "out").iterdir() if p.name[0] != "."] == ["a.atok"]
    result = atoken("encode", path, *common, "--allow-partial")
    assert result.exit_code == 0, result.output
    assert "of 60 frames" in result.stderr
    assert len(Tokens.load(tmp_path / "out/clip.atok").times) > 5
    (tmp_path / "empty.mp4").write_bytes(b"")
    result = atoken("encode", tmp_path / "empty.mp4", *common)
    assert (result.exit_code, "empty.mp4" in result.stderr) == (2, True)


@pytest.mark.slow
def test_sound(atoken, tiny, film, tmp_path):
    path = film.write("clip.mkv", "libx264", film.frames(30), audio="aac")
    common = "--model", tiny, "--out", tmp_path / "out"
    assert "aac" in atoken("encode", path, *common).stderr
    result = atoken("reconstruct", path, *common)
    assert "--keep-audio" in result.stderr
    assert open_video(tmp_path / "out/clip.reconstructed.mp4").facts.audio is None
    result = atoken("reconstruct", path, *common, "--keep-audio", "--overwrite")
    assert (result.exit_code, result.stderr) == (0, "")
    assert open_video(tmp_path / "out/clip.reconstructed.mp4").facts.audio == "aac"


@pytest.mark.slow
def test_no_thread_goes_on_after_a_failure(tiny, film, tmp_path, monkeypatch):
    path, tokens = film.write("clip.mp4", "libx264", film.frames(200), audio="aac"), tmp_path / "clip.atok"
    model = library.load(tiny)
    videos.encode(model, open_video(path), "continuous", tokens, lambda tile: tile)

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(videos.VideoWriter, "write_all", full)
    before = threading.active_count()
    for call, error in (
        (lambda: videos.encode(model, open_video(path), "continuous", tmp_path / "out.atok", full), OSError),
        (lambda: videos.decode(model, tokens, tmp_path / "out.mp4", False), OSError),
        (
            lambda: videos.reconstruct(model, open_video(path), "continuous", tmp_path / "out.webm", False, True),
            ValueError,
        ),
    ):
        with pytest.raises(error) as kept:
            call()
        assert threading.active_count() == before, kept.value
    assert list(tmp_path.glob("*out*")) == []


@pytest.mark.slow
def test_info(atoken, tiny, film, tmp_path):
    path = film.write("clip.mp4", "libx264", film.frames(20))
    atoken("encode", path, "--model", tiny, "--out", tmp_path)
    said = atoken("info", path, tmp_path / "clip.atok").stdout
    assert "h264" in said
    assert "yuv420p" in said
    assert "0.000 s, 0.760 s" in said


@pytest.mark.slow
def test_spatial_tiles(atoken, tiny, film, picture, tmp_path):
    path = film.write("clip.mkv", "ffv1", film.frames(5, 96, 112), pixel_format="bgr0")
    common = "--model", tiny, "--out"
    assert atoken("encode", path, *common, tmp_path / "t.atok", "--tile", 48).exit_code == 0
    assert atoken("encode", path, *common, tmp_path / "w.atok").exit_code == 0
    tiled, whole = Tokens.load(tmp_path / "t.atok"), Tokens.load(tmp_path / "w.atok")
    assert (tiled.spatial_tile, whole.spatial_tile) == (48, None)
    assert not np.array_equal(tiled.values, whole.values)
    assert atoken("decode", tmp_path / "t.atok", *common, tmp_path / "t.mkv", "--lossless").exit_code == 0
    assert np.array_equal(read(tmp_path / "t.mkv")[0], library.load(tiny).decode(tiled))
    result = atoken("encode", picture(tmp_path / "a.png"), *common, tmp_path, "--tile", 50)
    assert (result.exit_code, "--tile" in result.stderr) == (2, True)
