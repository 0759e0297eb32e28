"""What people meet first: how long it takes, what was left out, in which order, and the model that tokens name."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import atoken as library
from atoken import PRESETS, Tokens, read_image, write_image
from atoken.cli import forecast
from atoken.cli.forecast import Extent, Speed, estimate, expected_frames, measure_speed
from atoken.cli.report import seconds_text
from atoken.cli.settings import EncodeSettings
from atoken.cli.sources import owned_files
from atoken.media.video.source import open_video
from refusals import check_names


def animate(path, frames=4, side=16):
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [Image.new("RGB", (side, side), (60 * i % 256, 0, 0)) for i in range(frames)]
    made[0].save(path, save_all=True, append_images=made[1:], duration=100)
    return path


def write_cube(folder):
    """A textured plate as OBJ."""
    (folder / "c.obj").write_text(
        "mtllib c.mtl\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nusemtl m\nf 1/1 2/1 3/1 4/1\n"
    )
    (folder / "c.mtl").write_text("newmtl m\nmap_Kd -s 1 1 1 q.png\nmap_Bump n.png\n")
    Image.new("RGB", (8, 8), (9, 99, 199)).save(folder / "q.png")


@pytest.mark.slow
def test_pictures_go_before_clips_and_each_file_and_tile_has_a_line(atoken, tiny, picture, tmp_path):
    animate(tmp_path / "in/a.gif", 20)
    for name in ("b.png", "c.png"):
        picture(tmp_path / "in" / name)
    (tmp_path / "in/d.png").write_bytes(b"")
    result = atoken("encode", tmp_path / "in", "--model", tiny, "--out", tmp_path / "out")
    assert result.exit_code == 2
    lines = result.progress
    assert [line.split()[0] for line in lines] == ["[1/4]", "[2/4]", "[3/4]", "[3/4]", "[3/4]", "[4/4]"]
    for line, named in zip(
        lines, ["b.atok", "c.atok", "d.png", "a.gif: 16 of 20", "a.gif: 20 of 20", "a.atok"], strict=True
    ):
        check_names(line, named)
    decoded = atoken("decode", tmp_path / "out/a.atok", "--model", tiny, "--video-format", "gif", "--out", tmp_path)
    check_names(decoded.progress[0], "[0/1]", "a.atok", "16 of 20 frames")


def test_left_out_files_are_counted_by_ending(atoken, tiny, picture, tmp_path):
    picture(tmp_path / "in/a.png")
    for name in ("b.txt", "c.TXT", "sub/d.xyz", "e", ".hidden.txt"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text("x")
    result = atoken("encode", tmp_path / "in", "--model", tiny, "--out", tmp_path / "out")
    assert result.exit_code == 0
    check_names(result.progress[0], "left out", "2 .txt", "1 .xyz", "1 without an ending")
    named = atoken("encode", tmp_path / "in/a.png", "--model", tiny, "--out", tmp_path / "out2")
    assert "left out" not in "".join(named.progress)


@pytest.mark.slow
def test_long_work_is_announced_and_short_work_is_not_measured(atoken, tiny, picture, tmp_path, monkeypatch):
    picture(tmp_path / "in/a.png", 320, 480)
    animate(tmp_path / "in/b.gif", 20)
    arguments = ["encode", tmp_path / "in", "--model", tiny]
    monkeypatch.setattr(forecast, "measure_speed", lambda *_, **__: pytest.fail("measured"))
    assert atoken(*arguments, "--out", tmp_path / "short").exit_code == 0
    monkeypatch.setattr(forecast, "FEW_TOKENS", 600)
    monkeypatch.setattr(forecast, "measure_speed", lambda *_, **__: Speed(0.1, 0.0))
    for kind, size in (("continuous", "58.1 kB"), ("discrete", "7.26 kB")):
        result = atoken(*arguments, "--kind", kind, "--out", tmp_path / kind)
        (line,) = result.stderr.splitlines()
        check_names(line, "2 to do", "605 tokens", "60 s", "--max-side", size)
    assert atoken(*arguments, "--out", tmp_path / "continuous").stderr == "", "nothing is left to do"


@pytest.mark.slow
@pytest.mark.slow
def test_long_decoding_is_announced_too(atoken, tiny, picture, tmp_path, monkeypatch):
    picture(tmp_path / "in/a.png", 320, 480)
    animate(tmp_path / "in/b.gif", 20)
    assert atoken("encode", tmp_path / "in", "--model", tiny, "--out", tmp_path / "tokens").exit_code == 0
    (tmp_path / "tokens/c.atok").write_bytes(b"damaged")
    monkeypatch.setattr(forecast, "FEW_TOKENS", 600)
    monkeypatch.setattr(forecast, "measure_speed", lambda *_, **__: Speed(0.1, 0.0))
    first = atoken("decode", tmp_path / "tokens", "--model", tiny, "--out", tmp_path / "back").stderr.splitlines()[0]
    check_names(first, "3 to do", "605 tokens", "60 s")


def test_context_is_computed_again():
    config = replace(PRESETS["nano"], decoder_tile=4)
    facts = {"modality": "image", "grid": "[1, 40, 40, 1]"}
    assert forecast.token_extent(facts, 1600, config) == Extent(1600, 1600, 0)
    tiled = forecast.token_extent(facts | {"spatial_tile": "160"}, 1600, config)
    assert (tiled.segment, tiled.again) == (12 * 12, 16 * 12 * 12 - 1600)
    assert Speed(1.0, 0.0).seconds(tiled) == 16 * 12 * 12
    assert forecast.token_extent({"modality": "3d"}, 99, config) == Extent(99, 99)


def test_time_grows_with_tokens_and_with_what_attends_to_what():
    speed = Speed(1e-3, 1e-6)
    assert speed.seconds(Extent(2000, 1000)) == pytest.approx(2000 * 1e-3 + 2000 * 1000 * 1e-6)
    torch.manual_seed(0)
    measured = measure_speed(library.AToken(PRESETS["tiny"]), encode=True, decode=True)
    assert measured.token > 0
    assert measured.pair > 0


def test_an_estimate_looks_at_some_of_many_files_and_passes_over_broken_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(forecast, "LOOKED_AT", 10)
    seen = []

    def extent(path):
        seen.append(path)
        if len(seen) == 1:
            raise RecursionError
        return None if len(seen) == 2 else Extent(1000, 1000)

    work = estimate([tmp_path / str(i) for i in range(100)], extent, lambda: Speed(1.0, 0.0))
    assert len(seen) == 10
    assert (work.tokens, work.seconds, work.unknown) == (80_000, 80_000, 10)
    assert estimate([], extent, lambda: Speed(1.0, 0.0)) is None


def test_expected_frames_are_those_that_are_read(tmp_path):
    path = animate(tmp_path / "a.gif", 20)
    for options in ({}, {"size": 8}):
        video = open_video(path, **options)
        assert expected_frames(video) == sum(1 for _ in video)


@pytest.mark.slow
def test_max_side_shrinks_pictures(atoken, tiny, picture, tmp_path):
    path = picture(tmp_path / "a.png", 40, 80)
    for command in ("encode", "reconstruct"):
        assert atoken(command, path, "--model", tiny, "--out", tmp_path, "--max-side", 32).exit_code == 0
    assert Tokens.load(tmp_path / "a.atok").size == (16, 32)
    assert read_image(tmp_path / "a.reconstructed.png").shape == (16, 32, 3)
    flat = np.full((64, 2, 3), 77, np.uint8)
    write_image(tmp_path / "b.png", flat)
    settings = EncodeSettings(max_side=16)
    assert np.array_equal(settings.read_picture(tmp_path / "b.png"), flat[:16, :1])
    for arguments, named in (
        (["--max-side", "0"], "--max-side is 0"),
        (["--max-side", "9", animate(tmp_path / "c.gif")], "--size"),
    ):
        source = [] if len(arguments) > 2 else [path]
        check_names(atoken("encode", *source, *arguments, "--model", tiny).stderr, "--max-side", named)


@pytest.mark.slow
def test_tokens_are_decoded_by_the_shipped_model_that_they_name(atoken, tiny, picture, tmp_path):
    path = picture(tmp_path / "a.png")
    for name in ("nano", "nano-discrete"):
        assert atoken("encode", path, "--model", name, "--out", tmp_path / f"in/{name}.atok").exit_code == 0
    assert atoken("encode", path, "--model", tiny, "--out", tmp_path / "in/tiny.atok").exit_code == 0
    animate(tmp_path / "b.gif")
    assert atoken("encode", tmp_path / "b.gif", "--model", tiny, "--out", tmp_path / "in").exit_code == 0
    result = atoken("decode", tmp_path / "in", "--out", tmp_path / "back")
    assert result.exit_code == 2
    first, second = result.stderr.splitlines()
    check_names(first, "in/tiny.atok", "'tiny'", "--model", "nano-discrete")
    check_names(second, "in/b.atok", "'tiny'", "--model")
    for name in ("nano", "nano-discrete"):
        expected = library.load(name).decode(Tokens.load(tmp_path / f"in/{name}.atok"))
        assert np.array_equal(read_image(tmp_path / f"back/{name}.png"), expected)


def test_times_are_told_as_people_read_them():
    seconds = 0.0632, 5.04, 20, 99.4, 300, 1860, 7200, 80 * 3600, 1e6
    assert [seconds_text(value) for value in seconds] == [
        *("0.063 s", "5 s", "20 s", "99 s", "5 min", "31 min", "2 h", "80 h", "12 days")
    ]


@pytest.mark.slow
def test_info_lists_a_folder(atoken, picture, tmp_path):
    picture(tmp_path / "in/a.png")
    write_cube(tmp_path / "in")
    (tmp_path / "in/d.txt").write_text("x")
    result = atoken("info", tmp_path / "in")
    assert result.exit_code == 0, result.stderr
    assert [line for line in result.stdout.splitlines() if line and line[0] != " "] == [
        str(tmp_path / "in/a.png"), str(tmp_path / "in/c.obj"),
    ]  # fmt: skip
    words = [line.split() for line in result.stdout.splitlines()]
    assert ["triangles", "2"] in words
    assert any(line[:1] == ["tokens"] and int(line[-1]) > 0 for line in words[-4:])
    check_names(result.progress[0], "left out", "1 .txt", "1 .mtl, 1 .png as parts of other files")


def test_the_textures_of_a_mesh_are_no_inputs_of_their_own(tmp_path):
    write_cube(tmp_path)
    (tmp_path / "b.gltf").write_text(
        '{"images": [{"uri": "g%20h.png"}, {"uri": "data:,"}, 7], "buffers": [{"uri": "b.bin"}]}'
    )
    (tmp_path / "p.ply").write_text("ply\nformat ascii 1.0\ncomment TextureFile t.png\nend_header\n")
    (tmp_path / "bad.gltf").write_text("{")
    for name in ("g h.png", "b.bin", "t.png", "n.png", "own.png"):
        (tmp_path / name).write_bytes(b"x")
    owned = {
        name: [file.name for file in owned_files(tmp_path / name)] for name in ("c.obj", "b.gltf", "p.ply", "bad.gltf")
    }
    assert owned == {
        "c.obj": ["c.mtl", "q.png", "n.png"],
        "b.gltf": ["g h.png", "b.bin"],
        "p.ply": ["t.png"],
        "bad.gltf": [],
    }


def test_info_says_tokens_and_their_bytes(atoken, picture, tmp_path):
    for path, tokens in ((picture(tmp_path / "a.png"), 6), (animate(tmp_path / "b.gif", 9), 3)):
        lines = atoken("info", path).stdout.splitlines()
        assert ["tokens", str(tokens)] in [line.split() for line in lines]
        check_names(next(line for line in lines if "bytes as tokens" in line), f"{96 * tokens} bytes", f"{12 * tokens}")


@pytest.mark.slow
def test_info_says_the_time_of_long_work(atoken, picture, monkeypatch, tmp_path):
    monkeypatch.setattr(forecast, "measure_speed", lambda *_, encode, decode: forecast.Speed(1.0 + decode, 0.0))
    still, moving = picture(tmp_path / "a.png"), animate(tmp_path / "b.gif", 9)
    atoken("encode", still, moving, "--out", tmp_path)
    files = still, moving, tmp_path / "a.atok", tmp_path / "b.atok"

    def times() -> list[str]:
        return [line for path in files for line in atoken("info", path).stdout.splitlines() if "time to" in line]

    assert times() == []
    monkeypatch.setattr(forecast, "FEW_TOKENS", 1)
    for line, names in zip(
        times(), [("encode", "6 s"), ("encode", "3 s"), ("decode", "12 s"), ("decode", "6 s")], strict=True
    ):
        check_names(line, *names, "nano", "this machine")


@pytest.mark.slow
def test_a_file_that_counts_no_frames_is_forecast_by_its_duration(atoken, tiny, film, tmp_path):
    film.write(tmp_path / "a.mkv", "mpeg4", film.frames(8))
    video = open_video(tmp_path / "a.mkv")
    assert video.facts.frames is None
    assert expected_frames(video) == 8
    words = [line.split() for line in atoken("info", tmp_path / "a.mkv").stdout.splitlines()]
    assert ["frames", "about", "8"] in words
    result = atoken("encode", tmp_path / "a.mkv", "--model", tiny, "--out", tmp_path)
    check_names(result.progress[0], "8 of about 8 frames")
