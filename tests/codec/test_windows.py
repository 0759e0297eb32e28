"""Large pictures and frames in spatial tiles: what each window sees, one raster of tokens, what the header says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import atoken
from atoken import PRESETS, AToken, Clip, TokenFile, Tokens, TokenWriter
from atoken.codec import videos
from atoken.codec.windows import windows_of
from atoken.nn.packed import dense_coords
from atoken.tokens.patch import spatial_tile_of
from refusals import refused

TILE = 64


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return AToken(PRESETS["tiny"]).eval()


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (150, 201, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (23, 102, 121, 3), dtype=np.uint8)


@pytest.mark.parametrize("rows", [1, 4, 5, 6, 7, 10, 13, 100])
@pytest.mark.parametrize("columns", [1, 9, 33])
def test_windows_cover_the_grid_once(rows, columns):
    seen = np.zeros((rows, columns), int)
    windows = windows_of((1, rows, columns, 1), TILE)
    for window in windows:
        seen[window.top : window.bottom, window.left : window.right] += 1
        for side, whole in zip(window.shape, (rows, columns), strict=True):
            assert side <= 6  # at most one and a half tiles
            assert side >= min(whole, 2.5)
    assert (seen == 1).all()


def test_small_grids_are_whole():
    assert spatial_tile_of((4, 5, 5, 1), TILE) is None
    assert spatial_tile_of((4, 6, 5, 1), TILE) == TILE  # from one and a half tiles on
    assert len(windows_of((1, 100, 100, 1), None)) == 1


def test_tokens_of_a_window_are_those_of_its_crop(model, picture):
    tokens = model.encode(picture, spatial_tile=TILE)
    assert (tokens.spatial_tile, tokens.grid, tokens.size) == (TILE, (1, 10, 13, 1), (150, 201))
    assert torch.equal(tokens.coords, dense_coords(tokens.grid))
    raster = tokens.values.view(10, 13, -1)
    for window in windows_of(tokens.grid, TILE):
        crop = picture[window.top * 16 : window.bottom * 16, window.left * 16 : window.right * 16]
        alone = model.encode(crop, spatial_tile=0)
        part = raster[window.top : window.bottom, window.left : window.right].flatten(0, 1)
        torch.testing.assert_close(part, alone.values, atol=1e-4, rtol=0)


def test_a_patch_depends_on_its_window_and_its_neighbours_alone(model, picture):
    tokens = model.encode(picture, spatial_tile=TILE)
    whole = model.decode(tokens)
    assert whole.shape == picture.shape
    first = windows_of(tokens.grid, TILE)[0]

    def first_window(row, column):
        values = tokens.values.clone().view(10, 13, -1)
        values[row, column] += 5
        changed = Tokens(**{**vars(tokens), "values": values.flatten(0, 1)})
        return model.decode(changed)[: first.bottom * 16, : first.right * 16]

    ours = whole[: first.bottom * 16, : first.right * 16]
    assert not np.array_equal(first_window(first.bottom, first.right), ours)  # the context
    assert np.array_equal(first_window(first.bottom + 1, first.right + 1), ours)
    assert np.array_equal(first_window(9, 12), ours)


def test_decoding_puts_the_windows_together(model, picture):
    """With the decoder of each window and its context called by hand."""
    tokens = model.encode(picture, spatial_tile=TILE)
    whole, raster = model.decode(tokens), tokens.values.view(10, 13, -1)
    for window in windows_of(tokens.grid, TILE):
        seen = window.grown(10, 13)
        part = raster[seen.top : seen.bottom, seen.left : seen.right].flatten(0, 1)
        grid = (1, *seen.shape, 1)
        size = (seen.shape[0] * 16, seen.shape[1] * 16)
        alone = model.decode(
            model.stamp("continuous", part, dense_coords(grid), grid=grid, size=size, box=(0, 0, *size))
        )
        top, left = (window.top - seen.top) * 16, (window.left - seen.left) * 16
        shown = whole[window.top * 16 : window.bottom * 16, window.left * 16 : window.right * 16]
        expected = alone[top : top + shown.shape[0], left : left + shown.shape[1]]
        assert np.abs(shown.astype(int) - expected).max() <= 1


def test_small_and_large_pictures_keep_their_order(model, picture):
    small = picture[:40, :50]
    tokens = model.encode([small, picture, small], spatial_tile=TILE)
    assert [item.spatial_tile for item in tokens] == [None, TILE, None]
    assert [shown.shape for shown in model.decode(tokens)] == [small.shape, picture.shape, small.shape]
    assert torch.equal(tokens[0].values, model.encode(small, spatial_tile=0).values)


def test_the_header_keeps_the_tile(model, picture, tmp_path):
    tokens = model.encode(picture, spatial_tile=TILE)
    tokens.save(tmp_path / "a.atok")
    loaded = Tokens.load(tmp_path / "a.atok")
    assert loaded.spatial_tile == TILE
    assert np.array_equal(model.decode(loaded), model.decode(tokens))
    whole = model.encode(picture)
    assert whole.spatial_tile is None
    assert not torch.equal(whole.values, tokens.values)


@pytest.mark.slow
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_clips(golden, frames, tmp_path, cached, kind):
    model = golden.model(decoder_tile=3, decoder_cache=1) if cached else golden.model()
    whole = model.encode(Clip(frames, fps=25), kind=kind, spatial_tile=TILE)
    chunks = list(model.encode_stream(Clip(frames, fps=25), kind=kind, spatial_tile=TILE))
    assert videos.join(chunks) == whole
    assert whole.spatial_tile == TILE
    decoded = model.decode(whole)
    assert decoded.shape == frames.shape
    assert np.array_equal(np.concatenate([clip.frames for clip in model.decode_stream(iter(chunks))]), decoded)
    with TokenWriter(tmp_path / "a.atok") as writer:
        for chunk in chunks:
            writer.write(chunk)
    with TokenFile(tmp_path / "a.atok") as file:
        parts = [clip.frames for clip in model.decode_stream(file.frames(13, 19))]
    assert np.array_equal(np.concatenate(parts), decoded[13:19])


@pytest.mark.slow
def test_chunks_of_different_tiles_do_not_join(model, frames):
    first, _ = model.encode_stream(Clip(frames, fps=25), spatial_tile=TILE)
    _, second = model.encode_stream(Clip(frames, fps=25))
    for join in (videos.join, lambda chunks: list(model.decode_stream(chunks))):
        with refused("tile"):
            join([first, second])


@pytest.mark.slow
def test_the_budget_changes_nothing(model, picture):
    tokens = model.encode(picture, spatial_tile=TILE)
    little = model.encode(picture, spatial_tile=TILE, token_budget=1)
    torch.testing.assert_close(little.values, tokens.values, atol=1e-4, rtol=0)
    assert np.abs(model.decode(tokens, token_budget=1).astype(int) - model.decode(tokens)).max() <= 1


@pytest.mark.slow
def test_shipped_models_tile_from_384_pixels_on():
    rng = np.random.default_rng(0)
    for name in ("nano", "nano-discrete"):
        model = atoken.load(name)
        assert model.encode(rng.integers(0, 256, (64, 400, 3), dtype=np.uint8)).spatial_tile == 256
        assert model.encode(rng.integers(0, 256, (64, 368, 3), dtype=np.uint8)).spatial_tile is None
        assert model.encode(rng.integers(0, 256, (64, 400, 3), dtype=np.uint8), spatial_tile=0).spatial_tile is None
    assert all(config.spatial_tile is None for config in PRESETS.values())
