"""Tensors in and out: batches are what a list of their parts is, and no shape is guessed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atoken import PRESETS, AToken, Clip
from refusals import refused

SIDE, FPS = 40, 8.0


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return AToken(PRESETS["tiny"]).eval()


@pytest.fixture(scope="module")
def pictures():
    return torch.from_numpy(np.random.default_rng(0).random((2, 3, SIDE, SIDE + 9), dtype=np.float32))


@pytest.fixture(scope="module")
def frames():
    """Two clips of 18 frames, uint8 [B, T, H, W, 3]."""
    return np.random.default_rng(1).integers(0, 256, (2, 18, 24, 40, 3), dtype=np.uint8)


def test_a_batch_of_pictures_is_a_list_of_them(model, pictures):
    batch = model.encode(pictures, value_range=(0, 1))
    assert batch == model.encode(list(pictures), value_range=(0, 1))
    assert batch == model.encode(pictures.permute(0, 2, 3, 1).numpy(), value_range=(0, 1), layout="HWC")
    assert torch.equal(model.embed(pictures, value_range=(0, 1)), model.embed(list(pictures), value_range=(0, 1)))


def test_a_large_picture_of_a_batch_is_encoded_in_tiles(model, pictures):
    batch = model.encode(pictures, value_range=(0, 1), spatial_tile=16)
    assert [item.spatial_tile for item in batch] == [16, 16]
    assert batch == model.encode(list(pictures), value_range=(0, 1), spatial_tile=16)


@pytest.mark.parametrize("spatial_tile", [None, 16])
def test_clips_of_bytes_are_what_clip_makes_of_them(model, frames, spatial_tile):
    wanted = model.encode([Clip(clip, fps=FPS) for clip in frames], spatial_tile=spatial_tile)
    assert model.encode(frames, fps=FPS, spatial_tile=spatial_tile) == wanted
    assert model.encode(torch.from_numpy(frames), fps=FPS, spatial_tile=spatial_tile) == wanted
    channels_first = torch.from_numpy(frames).permute(0, 4, 1, 2, 3)
    assert model.encode(channels_first, fps=FPS, spatial_tile=spatial_tile) == wanted
    assert model.encode(frames[0], fps=FPS, spatial_tile=spatial_tile) == wanted[0]
    assert model.encode([frames[1]], fps=FPS, spatial_tile=spatial_tile) == wanted[1:]
    assert torch.equal(model.embed(frames, fps=FPS), model.embed([Clip(clip, fps=FPS) for clip in frames]))


def test_clips_of_floats_are_those_of_bytes_but_for_rounding(model, frames):
    floats = torch.from_numpy(frames).permute(0, 4, 1, 2, 3) / 255
    for item, wanted in zip(
        model.encode(floats, value_range=(0, 1), fps=FPS), model.encode(frames, fps=FPS), strict=True
    ):
        assert torch.equal(item.times, wanted.times)
        # pixels differ by an ulp or two of fp32, which two blocks of random weights do not blow up beyond this
        torch.testing.assert_close(item.latents, wanted.latents, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0)])
@pytest.mark.parametrize("spatial_tile", [0, 16])
def test_decoded_tensors_are_the_pictures_before_rounding(model, pictures, value_range, spatial_tile):
    tokens = model.encode(pictures, value_range=(0, 1), spatial_tile=spatial_tile)
    low, high = value_range
    decoded = model.decode(tokens, as_tensor=True, value_range=value_range)
    assert (decoded.shape, decoded.dtype, decoded.device) == (pictures.shape, torch.float32, model.device)
    assert decoded.min() >= low
    assert decoded.max() <= high
    shades = ((decoded - low) / (high - low) * 255).permute(0, 2, 3, 1).numpy()
    assert np.abs(shades - np.stack(model.decode(tokens))).max() <= 0.5 + 1e-3  # rounded to the nearest shade
    assert torch.equal(model.decode(tokens[0], as_tensor=True, value_range=value_range), decoded[0])


@pytest.mark.parametrize("spatial_tile", [0, 16])
def test_decoded_clips_are_tensors_with_channels_first(model, frames, spatial_tile):
    tokens = model.encode(frames, fps=FPS, spatial_tile=spatial_tile)
    decoded = model.decode(tokens, as_tensor=True, value_range=(0, 255))
    assert decoded.shape == (2, 3, 18, 24, 40)
    assert np.abs(decoded.permute(0, 2, 3, 4, 1).numpy() - np.stack(model.decode(tokens))).max() <= 0.5 + 1e-3
    part = model.decode(tokens[0].frames(5, 17), as_tensor=True, value_range=(0, 255))
    assert torch.equal(part, decoded[0, :, 5:17])


def test_what_decode_gives_encode_takes(model, pictures):
    decoded = model.decode(model.encode(pictures, value_range=(0, 1)), as_tensor=True, value_range=(0, 1))
    assert len(model.encode(decoded, value_range=(0, 1))) == len(pictures)


@pytest.mark.parametrize(
    ("shape", "options", "named"),
    [
        ((2, 3, 8, 16, 16), {}, ("[2, 3, 8, 16, 16]", "fps")),
        ((2, 3, 3, 16, 16), {"fps": 8}, ("[B, 3, T, H, W]", "[B, T, 3, H, W]", "layout")),
        ((2, 3, 8, 16, 3), {"fps": 8}, ("[B, 3, T, H, W]", "[B, T, H, W, 3]", "layout")),
        ((2, 8, 3, 16, 16), {"fps": 8}, ("[2, 8, 3, 16, 16]", "permute")),
        ((3, 3, 16, 16), {"fps": 8}, ("[3, T, H, W]", "[T, 3, H, W]", "layout")),
        ((8, 3, 16, 16), {"fps": 8}, ("[8, 3, 16, 16]", "permute")),
        ((8, 16, 16, 3), {}, ("[8, 16, 16, 3]", "fps", "layout")),
        ((8, 3, 16, 3), {}, ("[B, 3, H, W]", "[B, H, W, 3]", "layout")),
        ((8, 4, 16, 16), {}, ("[8, 4, 16, 16]",)),
        ((2, 8, 16, 16, 3), {"fps": 8, "layout": "CHW"}, ("layout", "[B, 3, T, H, W]")),
        ((3, 16, 16), {"fps": 8}, ("[3, 16, 16]", "fps")),
        ((1, 2, 3, 8, 16, 16), {"fps": 8}, ("[1, 2, 3, 8, 16, 16]",)),
        ((0, 3, 16, 16), {}, ("empty",)),
        ((3, 8, 16, 16), {"fps": 0}, ("fps", "0")),
        ((3, 8, 16, 16), {"fps": float("nan")}, ("fps", "nan")),
        ((2, 3, 16, 16), {"layout": "WHC"}, ("WHC",)),
    ],
)
def test_shapes_that_may_be_read_in_two_ways_are_refused_by_name(model, shape, options, named):
    with refused(*named):
        model.encode(torch.zeros(shape, dtype=torch.uint8), **options)


def test_layout_says_which_reading_is_meant(model):
    clips = torch.randint(0, 256, (1, 3, 3, 16, 16), dtype=torch.uint8)
    assert model.encode(clips, fps=8, layout="CHW") == model.encode(
        clips.permute(0, 2, 3, 4, 1).numpy(), fps=8, layout="HWC"
    )


def test_a_batch_inside_of_a_list_and_fps_of_a_file_are_refused(model, pictures):
    with refused("list", "[2, 3, 40, 49]"):
        model.encode([pictures], value_range=(0, 1))
    with refused("fps"):
        model.encode("photo.jpg", fps=8)
    for dtype in (bool, object, np.uint16):
        with refused(np.dtype(dtype)):
            model.encode(np.zeros((2, 8, 16, 16, 3), dtype), fps=8)
    with refused("value_range"):
        model.encode(pictures)
    with refused("NaN"):
        model.encode(torch.full((1, 3, 4, 16, 16), torch.nan), value_range=(0, 1), fps=8)


def test_one_batch_needs_one_size(model, pictures):
    tokens = model.encode([pictures[0], pictures[1, :, :16]], value_range=(0, 1))
    with refused("[3, 40, 49]", "[3, 16, 49]"):
        model.decode(tokens, as_tensor=True)
    with refused("value_range"):
        model.decode(tokens[0], as_tensor=True, value_range=(1, 0))
    with refused("nothing"):
        model.decode([], as_tensor=True)
