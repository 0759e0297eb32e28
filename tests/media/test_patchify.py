"""Pictures to patches and back: exact for any size, and nothing guessed."""

import numpy as np
import pytest
import torch

from atoken.media.patchify import (
    frames_to_patches,
    image_to_patches,
    patches_to_frames,
    patches_to_image,
)
from atoken.media.pixels import to_array, to_pixels, to_uint8
from refusals import refused

SIZES = [(1, 1), (1, 40), (40, 1), (15, 17), (16, 16), (17, 31), (33, 20), (64, 48)]


def noise(height, width):
    return np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_any_size_comes_back_exactly(height, width):
    picture = noise(height, width)
    patches, coords, geometry = image_to_patches(to_pixels(picture))
    rows, columns = -(-height // 16), -(-width // 16)
    assert geometry == {"grid": (1, rows, columns, 1), "size": (height, width), "box": (0, 0, height, width)}
    assert (patches.shape, coords.shape) == ((rows * columns, 768), (rows * columns, 4))
    assert patches.abs().max() <= 1
    back = to_array(patches_to_image(patches, geometry["grid"], geometry["box"]))
    assert np.array_equal(back, picture)


def test_a_patch_is_row_column_rgb_and_its_place_row_column():
    picture = noise(32, 48)
    patches, coords, _ = image_to_patches(to_pixels(picture))
    index = coords.tolist().index([0, 1, 2, 0])
    expected = picture[16:32, 32:48].astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(patches[index].view(16, 16, 3).numpy(), expected, atol=1e-6)


def test_the_padding_repeats_the_edge():
    patches, _, _ = image_to_patches(to_pixels(noise(5, 3)))
    block = patches.view(16, 16, 3)
    assert torch.equal(block[:, 2:], block[:, 2:3].expand(-1, 14, -1))
    assert torch.equal(block[4:], block[4:5].expand(12, -1, -1))


def test_ranges_and_layouts_give_the_same_pixels():
    picture = noise(7, 9)
    pixels = to_pixels(picture)
    assert (pixels.dtype, pixels.shape) == (torch.float32, (3, 7, 9))
    floats = picture.astype(np.float64)
    for other in (
        to_pixels(picture.transpose(2, 0, 1), layout="CHW"),
        to_pixels(torch.from_numpy(picture), layout="HWC"),
        to_pixels(torch.from_numpy(picture).permute(2, 0, 1)),
        to_pixels(picture[::-1][::-1]),
        to_pixels(floats / 255, value_range=(0, 1)),
        to_pixels(floats / 127.5 - 1, value_range=(-1, 1)),
        to_pixels(floats, value_range=(0, 255)),
        to_pixels(torch.from_numpy(floats / 255).permute(2, 0, 1), value_range=(0.0, 1.0)),
    ):
        torch.testing.assert_close(other, pixels, atol=1e-6, rtol=0)


def test_the_input_is_not_changed():
    picture = noise(7, 9)
    before = picture.copy()
    image_to_patches(to_pixels(picture).mul_(2))
    tensor = torch.rand(3, 4, 4)
    kept = tensor.clone()
    to_pixels(tensor, value_range=(0, 1)).add_(1)
    assert np.array_equal(picture, before)
    assert torch.equal(tensor, kept)


def test_what_the_decoder_says_beyond_the_range_is_clamped_and_rounded():
    pixels = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0]).view(1, 1, 5).expand(3, 1, 5)
    assert to_array(pixels)[0, :, 0].tolist() == [0, 0, 128, 255, 255]


HWC = np.zeros((4, 5, 3), np.float32)


@pytest.mark.parametrize(
    ("picture", "options", "words"),
    [
        (HWC, {}, "value_range"),
        (HWC, {"value_range": (1, 0)}, "value_range"),
        (HWC, {"value_range": "01"}, "value_range"),
        (HWC, {"value_range": (0, 1, 2)}, "value_range"),
        (HWC, {"value_range": (0, float("inf"))}, "value_range"),
        (HWC.astype(np.uint8), {"value_range": "01"}, "value_range"),
        (np.full((4, 5, 3), np.nan, np.float32), {"value_range": (0, 1)}, "NaN"),
        (np.full((4, 5, 3), np.inf, np.float32), {"value_range": (0, 1)}, "infinite"),
        (HWC + 2, {"value_range": (0, 1)}, "outside"),
        (HWC - 0.1, {"value_range": (0, 1)}, "outside"),
        (HWC.astype(np.int32), {}, "int32"),
        (HWC.astype(np.uint16), {}, "uint16"),
        (HWC.astype(bool), {}, "bool"),
        (HWC.astype(object), {}, "object"),
        (HWC[..., 0], {"value_range": (0, 1)}, "[4, 5]"),
        (HWC[..., :1], {"value_range": (0, 1)}, "grey"),
        (HWC[..., [0, 1, 2, 2]], {"value_range": (0, 1)}, "transparency"),
        (torch.zeros(5, 4, 4), {"value_range": (0, 1)}, "three channels"),
        (HWC.transpose(2, 0, 1), {"value_range": (0, 1)}, 'layout="CHW"'),
        (torch.zeros(4, 5, 3), {"value_range": (0, 1)}, 'layout="HWC"'),
        (HWC, {"value_range": (0, 1), "layout": "WHC"}, "'WHC'"),
        (np.zeros((0, 5, 3), np.uint8), {}, "empty"),
        (np.zeros((5, 0, 3), np.uint8), {}, "empty"),
        (torch.zeros(3, 0, 0, dtype=torch.uint8), {}, "empty"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(picture, options, words):
    with refused(words):
        to_pixels(picture, **options)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 16])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31), (1, 40)])
def test_frames_come_back_exactly(count, height, width):
    frames = np.random.default_rng(count).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    patches, coords, grid = frames_to_patches(frames)
    steps, rows, columns = -(-count // 4), -(-height // 16), -(-width // 16)
    assert grid == (steps, rows, columns, 1)
    assert (patches.shape, coords.shape) == ((steps * rows * columns, 3072), (steps * rows * columns, 4))
    back = to_uint8(patches_to_frames(patches, grid, (0, 0, height, width))).numpy()
    assert np.array_equal(back[:count], frames)
    assert all(np.array_equal(frame, frames[-1]) for frame in back[count:])  # missing frames repeat the last


def test_a_patch_over_time_is_frame_row_column_rgb():
    frames = np.random.default_rng(0).integers(0, 256, (8, 32, 48, 3), dtype=np.uint8)
    patches, coords, _ = frames_to_patches(frames)
    t, x, y, _ = coords[9].tolist()
    assert (t, x, y) == (1, 1, 0)
    expected = frames[4:8, 16:32, 0:16].reshape(-1) / 127.5 - 1
    assert patches[9].numpy() == pytest.approx(expected, abs=1e-6)
    assert torch.equal(patches[9, :768], image_to_patches(to_pixels(frames[4]))[0][3])  # frame 0, as a picture has it
