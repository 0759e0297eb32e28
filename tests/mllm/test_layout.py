"""Counts and places of placeholders, against plain loops over the grid."""

import pytest
import torch

from atoken.mllm import layout as lay
from atoken.mllm.layout import Geometry, LayoutConfig, lay_out
from atoken.nn.packed import dense_coords
from refusals import refused


def geometry(modality: str, *grid: int) -> Geometry:
    return Geometry(modality, grid, dense_coords(grid))  # type: ignore[arg-type]


def named(layout: lay.Layout) -> list[str]:
    return ["." if vector < 0 else lay.VECTORS[vector] for vector in layout.vectors.tolist()]


def test_a_picture_is_rows_between_begin_and_end():
    layout = lay_out(geometry("image", 1, 2, 3, 1), LayoutConfig())
    assert named(layout) == ["begin", ".", ".", ".", "row", ".", ".", ".", "row", "end"]
    assert layout.members.tolist() == list(range(6))
    assert layout.places.tolist() == [1, 2, 3, 5, 6, 7]


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 5), (4, 4), (7, 2), (5, 9)])
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_pooled_pictures_are_means_of_squares(rows, columns, factor):
    high, wide = -(-rows // factor), -(-columns // factor)
    layout = lay_out(geometry("image", 1, rows, columns, 1), LayoutConfig(image_tokens=high * wide))
    if high * wide >= rows * columns:
        high, wide, factor = rows, columns, 1
    values = torch.randn(rows * columns, 2)
    raster = values.view(rows, columns, 2)
    squares = [
        raster[i * factor : (i + 1) * factor, j * factor : (j + 1) * factor].flatten(0, 1).mean(0)
        for i in range(high)
        for j in range(wide)
    ]
    pooled = layout.pool(values)
    assert len(layout) == high * wide + high + 2
    torch.testing.assert_close(pooled[layout.vectors < 0], torch.stack(squares))
    assert not pooled[layout.vectors >= 0].any()


def test_a_picture_beyond_the_budget_says_how_many_tokens_it_is():
    with refused(9, "image_tokens", 8):
        lay_out(geometry("image", 1, 12, 12, 1), LayoutConfig(image_tokens=8))


def test_a_clip_is_slow_frames_then_fast_ones():
    config = LayoutConfig(slow_steps=1, fast_steps=2)
    layout = lay_out(geometry("video", 4, 4, 4, 1), config)
    assert named(layout) == ["begin", *"....", "frame", "separator", ".", "frame", ".", "frame", "end"]
    steps = layout.pool(dense_coords((4, 4, 4, 1)).float())[:, 0]
    assert steps[layout.vectors < 0].tolist() == [2, 2, 2, 2, 1, 3]


@pytest.mark.parametrize(("slow", "fast"), [(3, 0), (0, 3)])
def test_one_pathway_has_no_separator(slow, fast):
    layout = lay_out(geometry("video", 3, 2, 2, 1), LayoutConfig(slow_steps=slow, fast_steps=fast))
    assert named(layout) == ["begin", *[".", "frame"] * 3, "end"]


def test_the_papers_clip_is_9216_tokens():
    config = LayoutConfig()
    layout = lay_out(geometry("video", 128, 24, 24, 1), config)
    assert int((layout.vectors < 0).sum()) == 9216
    assert lay.frame_size(720, 720, 128, config) == (384, 384)
    assert lay.frame_size(320, 320, 128, config) == (320, 320)
    assert lay.frame_size(720, 720, 4, config) == (720, 720)


@pytest.mark.parametrize("sides", [(1080, 1920), (1920, 1080), (100, 4000), (383, 385)])
@pytest.mark.parametrize("steps", [1, 7, 128])
def test_frames_are_scaled_until_they_fit(sides, steps):
    config = LayoutConfig()
    height, width = lay.frame_size(*sides, steps, config)
    rows, columns = -(-height // 16), -(-width // 16)
    count = int((lay_out(geometry("video", steps, rows, columns, 1), config).vectors < 0).sum())
    assert count == lay.clip_tokens(steps, rows, columns, config) <= config.video_tokens


def test_a_clip_beyond_the_budget_says_how_many_tokens_it_is():
    with refused(2 * 4 + 2 * 1, "video_tokens", 9):
        lay_out(geometry("video", 2, 4, 4, 1), LayoutConfig(video_tokens=9))
    with refused(4, "video_tokens", 3):
        lay.frame_size(64, 64, 2, LayoutConfig(video_tokens=3))


@pytest.mark.parametrize("sides", [(2000, 3000), (10, 400000), (1537, 1536)])
def test_pictures_are_scaled_to_the_pixel_budget(sides):
    height, width = lay.picture_size(*sides, LayoutConfig())
    assert height % 16 == width % 16 == 0
    assert height * width <= 1536 * 1536
    assert lay.picture_size(1536, 1536, LayoutConfig()) == (1536, 1536)


@pytest.mark.parametrize(("budget", "cells"), [(64, 30), (20, 8), (7, 1), (1, 1)])
def test_voxels_are_pooled_on_a_coarser_grid(budget, cells):
    grid = dense_coords((1, 4, 4, 4))
    coords = grid[torch.randperm(64, generator=torch.Generator().manual_seed(0))[:30]]
    layout = lay_out(Geometry("3d", (1, 4, 4, 4), coords), LayoutConfig(voxel_tokens=budget))
    factor = {30: 1, 8: 2, 1: 4}[cells]
    found = sorted({tuple(cell) for cell in (coords[:, 1:] // factor).tolist()})
    means = [
        coords[((coords[:, 1:] // factor) == torch.tensor(cell)).all(1)].double().mean(0).tolist() for cell in found
    ]
    assert named(layout) == ["begin", *["."] * cells, "end"]
    torch.testing.assert_close(layout.pool(coords.double())[1:-1], torch.tensor(means, dtype=torch.float64))


def test_geometry_that_does_not_fit_is_refused():
    with refused(6, "(1, 2, 4, 1)"):
        Geometry("image", (1, 2, 4, 1), dense_coords((1, 2, 3, 1)))
    with refused("sound", "image"):
        Geometry("sound", (1, 1, 1, 1), dense_coords((1, 1, 1, 1)))


@pytest.mark.parametrize(
    ("values", "named"),
    [({"slow_steps": 0, "fast_steps": 0}, "pathway"), ({"video_tokens": 0}, "video_tokens"),
     ({"frames_per_token": 2}, "frames_per_token"), ({"image_tokens": 1.5}, "image_tokens")],
)  # fmt: skip
def test_numbers_that_cannot_be_are_refused(values, named):
    with refused(named):
        LayoutConfig(**values)
