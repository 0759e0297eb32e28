"""encode, decode and reconstruct where all is well: what is written, where, and what is said."""

import gc
import re
import weakref

import numpy as np
import pytest
import torch
from PIL import Image

import atoken as library
from atoken import Tokens, read_image, write_image
from atoken.cli.record import RECORD
from atoken.cli.report import bytes_text
from atoken.cli.settings import FORMATS
from atoken.metrics.psnr import psnr
from refusals import check_names


def tree(folder):
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() and path.name != RECORD
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", [None, "continuous", "discrete"])
def test_there_and_back_as_the_library_does(atoken, tiny, picture, tmp_path, kind):
    path = picture(tmp_path / "a.png")
    model = library.load(tiny)
    expected = model.encode(path, kind=kind).half()
    result = atoken("encode", path, "--model", tiny, "--out", tmp_path, *(["--kind", kind] if kind else []))
    assert result.exit_code == 0, result.output
    tokens = Tokens.load(tmp_path / "a.atok")
    assert tokens.kind == (kind or "continuous")
    assert torch.equal(tokens.values, expected.values)
    size = (tmp_path / "a.atok").stat().st_size
    assert result.stdout == f"1 written, 6 tokens, {bytes_text(size)}, in {tmp_path}\n"
    assert result.stderr == ""

    result = atoken("decode", tmp_path / "a.atok", "--model", tiny, "--out", tmp_path / "back")
    assert result.exit_code == 0, result.output
    assert np.array_equal(read_image(tmp_path / "back" / "a.png"), model.decode(expected))


@pytest.mark.slow
def test_reconstruct_writes_the_picture_and_its_psnr(atoken, tiny, picture, tmp_path):
    paths = [picture(tmp_path / "a.png"), picture(tmp_path / "bb.png", 16, 16)]
    result = atoken("reconstruct", *paths, "--model", tiny, "--kind", "discrete", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    model, scores = library.load(tiny), []
    for path in paths:
        expected = model.decode(model.encode(path, kind="discrete"))
        written = tmp_path / "out" / f"{path.stem}.reconstructed.png"
        assert np.array_equal(read_image(written), expected)
        scores.append(psnr(expected, read_image(path)))
        assert re.search(rf"{re.escape(str(written))} .*{scores[-1]:.2f}\n", result.stdout)
    assert re.search(rf"mean .*{np.mean(scores):.2f}\n2 written, 7 tokens, ", result.stdout)


@pytest.mark.slow
def test_reconstruct_leaves_the_results_of_an_earlier_run_alone(atoken, tiny, picture, tmp_path):
    picture(tmp_path / "a.png")
    for _ in range(2):
        result = atoken("reconstruct", tmp_path, "--model", tiny, "--out", tmp_path)
        assert result.exit_code == 0
    assert result.stdout.startswith("0 written, 1 skipped")
    assert tree(tmp_path) == ["a.png", "a.reconstructed.png"]


@pytest.mark.slow
def test_the_current_folder_is_the_default(atoken, tiny, picture, tmp_path, working_folder):
    picture(tmp_path / "photos/sub/a.png")
    assert atoken("encode", tmp_path / "photos", "--model", tiny).exit_code == 0
    assert tree(working_folder) == ["sub/a.atok"]
    assert atoken("decode", "**/*.atok", "--model", tiny, "--out", "back").exit_code == 0
    assert tree(working_folder) == ["back/sub/a.png", "sub/a.atok"]


@pytest.mark.slow
def test_structure_is_kept_below_out(atoken, tiny, picture, tmp_path):
    for name in ("photos/a.png", "photos/x/b.jpg", "photos/x/.c.png", "single/d.bmp"):
        picture(tmp_path / name)
    (tmp_path / "photos/notes.txt").write_text("no picture")
    out = tmp_path / "out"
    result = atoken("encode", tmp_path / "photos", tmp_path / "single/d.bmp", "--model", tiny, "--out", out)
    assert result.exit_code == 0, result.output
    assert tree(out) == ["a.atok", "d.atok", "x/b.atok"]
    result = atoken("decode", out, "--model", tiny, "--out", tmp_path / "back", "--format", "webp")
    assert result.exit_code == 0, result.output
    assert tree(tmp_path / "back") == ["a.webp", "d.webp", "x/b.webp"]


@pytest.mark.slow
def test_out_as_the_name_of_the_result(atoken, tiny, picture, tmp_path):
    path = picture(tmp_path / "a.png")
    assert atoken("encode", path, "--model", tiny, "--out", tmp_path / "new/x.atok").exit_code == 0
    assert tree(tmp_path / "new") == ["x.atok"]
    assert atoken("decode", tmp_path / "new/x.atok", "--model", tiny, "--out", tmp_path / "y.JPG").exit_code == 0
    with Image.open(tmp_path / "y.JPG") as image:
        assert image.format == "JPEG"
    assert atoken("reconstruct", path, "--model", tiny, "--out", tmp_path / "z.webp").exit_code == 0
    assert (tmp_path / "z.webp").is_file()


def test_out_and_format_must_agree(atoken, tiny, picture, tmp_path):
    path = picture(tmp_path / "a.png")
    result = atoken("reconstruct", path, "--model", tiny, "--out", tmp_path / "x.webp", "--format", "png")
    assert result.exit_code == 2
    check_names(result.stderr, f"error: --out {tmp_path}/x.webp", "--format png")
    assert tree(tmp_path) == ["a.png"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "out", "fitting"),
    [
        ("encode", "x2.png", [".atok"]),
        ("encode", "x2.mp4", [".atok"]),
        ("decode", "same.gif", [".avif", ".bmp", ".jfif"]),
        ("decode", "same.mp4", [".png", ".tif"]),
        ("decode", "same.ply", [".png", ".tif"]),
        ("reconstruct", "x.gif", [".png", ".tif"]),
        ("reconstruct", "x.atok", [".png", ".tif"]),
    ],
)
def test_an_out_that_does_not_fit_is_refused_before_any_work(
    atoken, tiny, picture, tmp_path, monkeypatch, command, out, fitting
):
    path = picture(tmp_path / "a.png")
    if command == "decode":
        assert atoken("encode", path, "--model", tiny, "--out", tmp_path / "a.atok").exit_code == 0
        path = tmp_path / "a.atok"
    before = tree(tmp_path)
    monkeypatch.setattr("atoken.cli.command.load", None)
    result = atoken(command, path, "--model", tiny, "--out", tmp_path / out)
    assert result.exit_code == 2
    check_names(result.stderr, f"error: --out {tmp_path / out}", path, *fitting)
    assert tree(tmp_path) == before
    assert not (tmp_path / out).exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_latents_are_stored_in_two_bytes_unless_told_otherwise(atoken, tiny, picture, tmp_path, kind):
    path, exact = picture(tmp_path / "a.png", 160, 320), library.load(tiny).encode(tmp_path / "a.png", kind=kind)
    sizes = []
    for options in ([], ["--latents", "float32"]):
        result = atoken(
            "encode", path, "--model", tiny, "--kind", kind, "--out", tmp_path / "a.atok", "--overwrite", *options
        )
        assert result.exit_code == 0, result.output
        tokens = Tokens.load(tmp_path / "a.atok")
        assert torch.equal(tokens.values, (exact if options else exact.half()).values)
        sizes.append((tmp_path / "a.atok").stat().st_size)
    if kind == "continuous":
        assert 200 * 48 * 2 < sizes[0] < 200 * 48 * 2 + 1000
        assert sizes[1] - sizes[0] == 200 * 48 * 2
    else:
        assert sizes[0] == sizes[1]
    check_names(atoken("encode", path, "--latents", "int8").stderr, "--latents", "'int8'", "float16", "float32")


@pytest.mark.slow
def test_every_format(atoken, tiny, picture, tmp_path):
    path = picture(tmp_path / "a.png")
    for name in FORMATS:
        result = atoken("reconstruct", path, "--model", tiny, "--out", tmp_path / "out", "--format", name)
        assert result.exit_code == 0, result.output
        assert read_image(tmp_path / "out" / f"a.reconstructed.{name}").shape == (20, 33, 3)
    check_names(atoken("decode", path, "--format", "gif").stderr, "--format", "'gif'")


@pytest.mark.slow
def test_background_shows_through(atoken, tiny, tmp_path):
    Image.new("RGBA", (16, 16), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    write_image(tmp_path / "red.png", np.full((16, 16, 3), (255, 0, 0), np.uint8))
    options = ["--model", tiny, "--out", tmp_path / "out"]
    result = atoken("encode", tmp_path / "clear.png", tmp_path / "red.png", *options, "--background", "255,0,0")
    assert result.exit_code == 0
    clear, red = (Tokens.load(tmp_path / "out" / f"{name}.atok").latents for name in ("clear", "red"))
    torch.testing.assert_close(clear, red)
    assert atoken("encode", tmp_path / "clear.png", *options, "--overwrite").exit_code == 0
    assert not torch.allclose(Tokens.load(tmp_path / "out/clear.atok").latents, red)


@pytest.mark.slow
def test_dtype_reaches_the_model(atoken, tiny, picture, tmp_path, monkeypatch):
    seen = []
    load = library.load
    monkeypatch.setattr("atoken.cli.command.load", lambda *a, **k: seen.append(k) or load(*a, **k))
    path = picture(tmp_path / "a.png")
    for dtype in ("float32", "bfloat16", "float16"):
        result = atoken("encode", path, "--model", tiny, "--out", tmp_path / dtype, "--dtype", dtype, "--device", "cpu")
        assert result.exit_code == 0, result.output
    assert seen == [{"device": "cpu", "dtype": getattr(torch, n)} for n in ("float32", "bfloat16", "float16")]
    exact = Tokens.load(tmp_path / "float32/a.atok").latents
    rounded = Tokens.load(tmp_path / "bfloat16/a.atok").latents
    assert 0 < (exact - rounded).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("budget", "batches"), [(None, [[6, 6, 6, 1]]), (12, [[6, 6], [6, 1]]), (1, [[6], [6], [6], [1]])]
)
def test_batches_keep_to_the_budget(atoken, tiny, picture, tmp_path, monkeypatch, budget, batches):
    for name in "abc":
        picture(tmp_path / f"in/{name}.png")
    picture(tmp_path / "in/d.png", 1, 1)
    seen = []
    encode = library.AToken.encode

    def spy(self, pictures, **options):
        seen.append([-(-p.shape[0] // 16) * -(-p.shape[1] // 16) for p in pictures])
        return encode(self, pictures, **options)

    monkeypatch.setattr(library.AToken, "encode", spy)
    options = ["--token-budget", budget] if budget else []
    assert atoken("encode", tmp_path / "in", "--model", tiny, "--out", tmp_path / "out", *options).exit_code == 0
    assert seen == batches
    assert len(tree(tmp_path / "out")) == 4
    result = atoken("decode", tmp_path / "out", "--model", tiny, "--out", tmp_path / "back", *options)
    assert result.exit_code == 0
    assert read_image(tmp_path / "back/d.png").shape == (1, 1, 3)


@pytest.mark.slow
def test_only_one_batch_of_pictures_is_in_memory(atoken, tiny, picture, tmp_path, monkeypatch):
    for i in range(8):
        picture(tmp_path / f"in/{i}.png")
    alive, most = weakref.WeakSet(), []

    class Watched(np.ndarray):
        __hash__ = object.__hash__

    def watched(*arguments, **options):
        array = read_image(*arguments, **options).view(Watched)
        alive.add(array)
        gc.collect()
        most.append(len(alive))
        return array

    monkeypatch.setattr("atoken.media.image.files.read_image", watched)
    out = ["--out", tmp_path / "out", "--token-budget", 12]
    assert atoken("encode", tmp_path / "in", "--model", tiny, *out).exit_code == 0
    assert len(most) == 8
    assert max(most) <= 4, "a batch of two, the one that starts the next, and the last written"


def test_out_of_memory_is_a_failure_of_that_picture_alone(atoken, tiny, picture, tmp_path, monkeypatch):
    encode = library.AToken.encode

    def small(self, pictures, **options):
        if sum(p.size for p in pictures) > 16 * 16 * 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, pictures, **options)

    monkeypatch.setattr(library.AToken, "encode", small)
    big, little = picture(tmp_path / "big.png"), picture(tmp_path / "little.png", 16, 16)
    result = atoken("encode", big, little, "--model", tiny, "--out", tmp_path / "out")
    assert result.exit_code == 2
    check_names(result.stderr, f"error: {big}", "memory", "6 tokens")
    assert tree(tmp_path / "out") == ["little.atok"]


@pytest.mark.slow
def test_warnings_of_the_library_are_lines(atoken, tiny, tmp_path):
    frames = [Image.new("RGB", (16, 16), (shade, 0, 0)) for shade in (0, 100, 200)]
    for name in ("a", "b"):
        frames[0].save(tmp_path / f"{name}.tif", save_all=True, append_images=frames[1:])
    result = atoken("encode", tmp_path, "--model", tiny, "--out", tmp_path / "out")
    assert result.exit_code == 0
    for line, name in zip(result.stderr.splitlines(), ("a", "b"), strict=True):
        check_names(line, f"warning: {tmp_path}/{name}.tif", "3 frames", "2 left out")


@pytest.mark.slow
def test_names_with_markup_and_control_characters(atoken, tiny, picture, tmp_path):
    path = tmp_path / "[red]\x1b[31m\n.png"
    path.write_text("no picture, but long enough")
    result = atoken("encode", path, picture(tmp_path / "[bold].png"), "--model", tiny, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert tree(tmp_path / "out") == ["[bold].atok"]
    check_names(result.stderr, f"error: {tmp_path}/[red]\\x1b[31m\\n.png")


def test_bytes_are_told_as_people_read_them():
    counts = 0, 999, 1000, 38_150, 123_456, 999_499, 15_323_888, 1_691_000_000
    words = "0 bytes", "999 bytes", "1 kB", "38.1 kB", "123 kB", "999 kB", "15.3 MB", "1.69 GB"
    assert [bytes_text(count) for count in counts] == list(words)
