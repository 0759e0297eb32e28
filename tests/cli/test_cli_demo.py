"""``atoken demo``: the files, the table, and a page that needs nothing else."""

import base64
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import atoken as atoken_package
from atoken import PRESETS, AToken, GaussianConfig, Tokens, load, read_image
from atoken.demo import assets, codes, drawings, words
from atoken.demo.assets import SOLIDS, solid
from atoken.demo.images import PHOTOGRAPHS, reconstruct
from atoken.demo.overview import GAP, HEIGHT, Column, colours, patches, write_overview
from atoken.demo.page import Section, write_page
from atoken.gaussians.formats.ply import to_bytes
from atoken.gaussians.raster.rasterize import render
from atoken.gaussians.types import SH_C0
from atoken.gaussians.viewer import BACKGROUND, GREY
from atoken.media.patchify import image_to_patches
from atoken.media.pixels import to_pixels
from atoken.metrics.psnr import psnr
from refusals import check_names

sys.path.append(str(Path(__file__).parents[1] / "generation"))
from generators import WORDS, Tower, generator


@pytest.mark.slow
def test_the_demo_shows_every_photograph_on_a_page_that_stands_alone(atoken, tiny, tmp_path):
    result = atoken("demo", "--model", tiny, "--out", tmp_path / "out")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["photograph", "pixels", "tokens", "bytes", "PSNR", "dB", "seconds"]
    model = load(tiny)
    for name, line in zip(PHOTOGRAPHS, lines[1:5], strict=True):
        tokens = Tokens.load(tmp_path / "out" / f"{name}.atok")
        size = (tmp_path / "out" / f"{name}.atok").stat().st_size
        height, width = tokens.size
        assert line.split()[:4] == [name, f"{width}×{height}", str(len(tokens)), f"{size:,}"]
        assert model.decode(tokens).shape == (height, width, 3)
    assert lines[5] == f"open {tmp_path}/out/index.html to see them"
    assert read_image(tmp_path / "out/overview.jpg").shape[0] == 4 * HEIGHT + 3 * GAP

    page = (tmp_path / "out/index.html").read_text()
    sources = re.findall(r"""(?:src|href)=['"]([^'"]+)""", page)
    videos = [source for source in sources if source.startswith("data:video/mp4;base64,")]
    assert (len(videos), len(sources)) == (1, 3 + (4 + 4) * len(PHOTOGRAPHS) + 1 + 2)
    assert all(source.startswith("data:image/webp;base64,") for source in sources if source not in videos)
    clip = atoken_package.open_video(tmp_path / "out/clip.mp4")
    assert base64.b64decode(videos[0].split(",")[1]) == (tmp_path / "out/clip.mp4").read_bytes()
    assert (clip.facts.codec, clip.frame_size, sum(1 for _ in clip)) == ("h264", (192, 768), 96)
    assert not re.search(r"https?://|@import|url\(|fetch\(", page)
    assert "<!-- sections -->" not in page
    assert all(credit in page for credit in PHOTOGRAPHS.values())


def test_further_sections_follow_and_text_is_no_markup(tmp_path):
    sections = [Section("One & two", "a < b", "<p>first</p>"), Section("Later", "not \udcff UTF-8", "<p>second</p>")]
    write_page(tmp_path / "a.html", sections, "the <end>")
    page = (tmp_path / "a.html").read_text("utf-8")
    assert "One &amp; two" in page
    assert "a &lt; b" in page
    assert "the &lt;end&gt;" in page
    assert page.index("<p>first</p>") < page.index("<p>second</p>")


def test_a_mosaic_has_one_colour_for_each_token():
    rng = np.random.default_rng(0)
    pixels = to_pixels(rng.integers(0, 256, (20, 33, 3), dtype=np.uint8))
    numbers, coords, geometry = image_to_patches(pixels)
    tokens = Tokens(kind="continuous", values=numbers, coords=coords, model="none", weights="0", **geometry)
    picture = patches(tokens, *colours([tokens]))
    assert (picture.shape, picture.dtype) == ((20, 33, 3), np.uint8)
    assert len({tuple(picture[r, c]) for r in (0, 15) for c in (0, 15)}) == 1
    assert len({tuple(picture[r, c]) for r in (0, 16) for c in (0, 16, 32)}) == 6


@pytest.mark.slow
def test_codes_are_drawn_as_maps_beside_codecs_within_their_bytes(tiny, tmp_path):
    model = load(tiny)
    photographs = reconstruct(model, tmp_path)[:1]
    body = codes.section(model, codes.reconstruct(model, photographs)).body
    tokens = model.encode(photographs[0].original, kind="discrete")
    cells = re.findall(r"<td>([^<]+)</td>", body)
    back, original = model.decode(tokens), photographs[0].original
    assert cells[:2] == [photographs[0].name, f"{len(tokens) * 12:,}"]
    assert (cells[2], cells[5]) == (
        f"{psnr(back, original):.2f}",
        f"{psnr(photographs[0].reconstruction, original):.2f}",
    )

    rows, columns = tokens.grid[1:3]
    drawn = codes.maps(tokens)
    assert drawn.shape == (3 * rows * codes.DOT, 3 * columns * codes.DOT, 3)
    red = drawn[:: codes.DOT, :: codes.DOT, 0].reshape(3, rows, 3, columns).swapaxes(1, 2).reshape(9, -1)
    levels = tokens.latents[:, ::6].T  # the first number of each of the eight codes
    assert np.array_equal(red[:8], np.round(127.5 * (levels.numpy() + 1)).astype(np.uint8))
    assert (red[8] == 128).all()


@pytest.mark.slow
def test_chair_and_duck_go_through_a_model_with_a_head():
    torch.manual_seed(0)
    head = GaussianConfig(64, 1, 1, 64, per_voxel=1, resolution=32, scale=0.4 / 32, opacity=0.9, residual=True)
    model = AToken(replace(PRESETS["tiny"], gaussians=head)).eval()
    done = assets.reconstruct(model, None)
    body = assets.section(done).body
    splats = [to_bytes(model.decode(model.encode(solid(name)))) for name in SOLIDS]
    assert re.findall(r"data-ply='([^']+)'", body) == [base64.b64encode(data).decode() for data in splats]
    assert re.findall(r"the (\w+), from a side", body) == [name for name in SOLIDS for _ in range(2)]
    assert assets.reconstruct(AToken(PRESETS["tiny"]), None) == []
    assert "data-ply" in assets.section([]).body


def test_an_output_that_is_a_file(atoken, tiny, tmp_path):
    (tmp_path / "file").write_text("here")
    result = atoken("demo", "--model", tiny, "--out", tmp_path / "file")
    assert result.exit_code == 2
    check_names(result.stderr, f"error: {tmp_path}/file", "folder")


@pytest.mark.slow
def test_words_are_those_of_the_nearest_vectors(monkeypatch):
    torch.manual_seed(0)
    head = GaussianConfig(64, 1, 1, 64, per_voxel=1, resolution=32)
    model = AToken(replace(PRESETS["tiny"], gaussians=head, text_tower="all-minilm")).eval()
    shown = words.things(model)
    assert [thing.name for thing in shown] == [*PHOTOGRAPHS, *SOLIDS, "clip"]
    assert [thing.name for thing in words.things(AToken(PRESETS["tiny"]).eval())] == [*PHOTOGRAPHS, "clip"]
    own = torch.stack([thing.vector for thing in shown])
    alone = [model.embed([source])[0] for source in [*(thing.picture for thing in shown[:4]), *map(solid, SOLIDS)]]
    torch.testing.assert_close(own[:6], torch.stack(alone), atol=1e-5, rtol=0)
    assert words.nearest(shown, own[3])[0] == (shown[3], pytest.approx(1.0, abs=1e-5))
    scores = [score for _, score in words.nearest(shown, own[3])]
    assert (len(scores), scores) == (3, sorted(scores, reverse=True))

    vectors = dict(zip(words.LABELS, own, strict=False)) | dict.fromkeys(words.QUERIES, own[1])

    class Tower:
        name, width = "all-minilm", 64

        def __call__(self, texts):
            return torch.stack([next(v for text, v in vectors.items() if text in prompt) for prompt in texts])

    monkeypatch.setattr(words, "tower_of", lambda model: Tower())
    body = words.section(model).body
    captions = re.findall(r"<figcaption><b>([^<]+)", body)
    assert [caption.rsplit(" ", 1)[0] for caption in captions[: len(words.LABELS)]] == list(words.LABELS)
    assert captions[len(shown) :: words.BEST] == ["cosine 1.00"] * len(words.QUERIES)


def test_sliders_choose_among_pictures_that_lie_in_the_page(tiny, monkeypatch):
    monkeypatch.setattr("atoken.generation.generator.text", Tower)
    monkeypatch.setattr(drawings, "STEPS", 1)
    drawer = generator(load(tiny), text_width=WORDS)
    pictures = drawings.grid(drawer, "a red heart")
    assert pictures.shape == (3 * 32, 3 * 48, 3)
    alone = drawer("a red heart", seeds=drawings.SEEDS[1], guidance=drawings.GUIDANCE[2], steps=1)[0]
    assert np.abs(pictures[64:, 48:96].astype(int) - alone).max() <= 1  # sums in another order may round otherwise
    body = drawings.section(drawer).body
    assert body.count("<img src='data:image/webp") == len(drawings.PROMPTS)
    assert re.findall("data-name='(.*?)' data-values='(.*?)'", body) == [("seed", "1,2,3"), ("guidance", "1,3,6")]


def test_the_overview_has_a_row_for_each_way_and_white_where_there_is_none(tmp_path):
    rng = np.random.default_rng(0)
    numbers, coords, geometry = image_to_patches(to_pixels(rng.integers(0, 256, (64, 32, 3), dtype=np.uint8)))
    tokens = Tokens(kind="continuous", values=numbers, coords=coords, model="none", weights="0", **geometry)
    grey, dark = (np.full((64, 32, 3), value, np.uint8) for value in (99, 30))
    columns = [
        Column(grey, tokens, lambda paint: patches(tokens, paint), (dark, grey)),
        Column(dark, tokens, lambda paint: patches(tokens, paint), (grey,)),
    ]
    write_overview(columns, tmp_path / "a.jpg")
    drawn, width = read_image(tmp_path / "a.jpg").astype(int), HEIGHT // 2
    assert drawn.shape == (4 * HEIGHT + 3 * GAP, 2 * width + GAP, 3)
    rows = [drawn[row * (HEIGHT + GAP) :][:HEIGHT] for row in range(4)]
    assert [row[:, :width].std() < 2 for row in rows] == [True, False, True, True]
    assert [row[:, :width].mean() for row in rows[2:]] == [pytest.approx(30, abs=2), pytest.approx(99, abs=2)]
    assert [row[:, -width:].mean() for row in rows[2:]] == [pytest.approx(99, abs=2), pytest.approx(255, abs=2)]
    same = np.abs(rows[1][:, :width] - rows[1][:, width + GAP :]).mean()  # the same tokens, the same colours
    assert same < 6 < rows[1].std()


@pytest.mark.slow
def test_the_overview_has_a_frame_with_the_tokens_of_its_time_and_a_solid_in_the_colours_of_its_voxels():
    head = GaussianConfig(64, 1, 1, 64, per_voxel=2, resolution=32, scale=0.4 / 32, opacity=0.9, residual=True)
    model = AToken(replace(PRESETS["tiny"], gaussians=head)).eval()
    clip = model.encode(atoken_package.Clip(np.zeros((8, 16, 32, 3), np.uint8), fps=8.0))  # 2 steps of 1 x 2 patches
    paint = np.arange(4 * 3, dtype=np.uint8).reshape(4, 3)
    assert np.array_equal(patches(clip, paint, 1)[:, ::16], np.broadcast_to(paint[2:], (16, 2, 3)))

    done = assets.reconstruct(model, None)[0]
    column = assets.column(done)
    tokens, gaussians = done.ways[0]
    paint = np.random.default_rng(0).integers(0, 256, (len(tokens), 3), dtype=np.uint8)
    voxel = torch.arange(len(gaussians)) // head.per_voxel
    painted = replace(gaussians, sh=(torch.from_numpy(paint).float()[voxel] / 255 - 0.5) / SH_C0)
    view = done.asset.held_out_cameras[:1]
    assert np.array_equal(column.draw(paint), render(painted, view, background=BACKGROUND).to_uint8()[0])
    assert np.array_equal(column.returned, render(gaussians, view, background=BACKGROUND).to_uint8())
    there = done.asset.held_out[0].any(-1)
    assert np.array_equal(column.original[there], done.asset.held_out[0][there])
    assert (column.original[~there] == GREY).all()
