"""Token files written tile by tile: only tiles that fit each other, and nothing that no reader opens."""

from dataclasses import replace

import pytest
import torch

from atoken import TokenFile, Tokens, TokenWriter
from atoken.codec.videos import join
from atoken.nn.packed import dense_coords
from refusals import refused

GRID = (2, 2, 3, 1)


def tile(number=0, frames=8, kind="continuous", **changes):
    """Tokens of up to 8 frames, the ``number``-th of a clip of 25 frames a second."""
    generator = torch.Generator().manual_seed(number)
    values = torch.randn(12, 48, generator=generator)
    if kind == "discrete":
        values = torch.randint(4096, (12, 8), generator=generator).to(torch.uint16)
    times = (8 * number + torch.arange(frames, dtype=torch.float64)) / 25
    facts = {"kind": kind, "values": values, "coords": dense_coords(GRID), "grid": GRID, "size": (20, 33)}
    facts |= {"box": (0, 0, 20, 33), "model": "test", "weights": "0123abcd" * 8, "modality": "video", "times": times}
    return Tokens(**(facts | changes))


def written(path, *tiles):
    with TokenWriter(path) as writer:
        for item in tiles:
            writer.write(item)
    return path


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_tiles_become_one_file_of_the_same_bytes(kind, tmp_path):
    tiles = [tile(0, kind=kind), tile(1, kind=kind), tile(2, frames=5, kind=kind)]
    path = written(tmp_path / "a.atok", *tiles)
    assert Tokens.load(path) == join(tiles)
    with TokenFile(path) as file:
        assert torch.equal(torch.cat(list(file.latent_steps())), join(tiles).latents)
    assert written(tmp_path / "b.atok", *tiles).read_bytes() == path.read_bytes()


WIDE = {"grid": (2, 1, 6, 1), "coords": dense_coords((2, 1, 6, 1)), "size": (16, 90), "box": (0, 0, 16, 90)}
UNLIKE = [
    (tile(1, values=tile(1).values.half()), "dtype"),
    (tile(1, values=torch.zeros(12, 40)), "channels"),
    (tile(1, kind="discrete"), "kind"),
    (tile(1, **WIDE), "tiles"),
    (tile(1, size=(20, 32), box=(0, 0, 20, 32)), "size"),
    (tile(1, box=(1, 0, 20, 33)), "box"),
    (tile(1, value_range=(0.0, 1.0)), "value_range"),
    (tile(1, model="other"), "model"),
    (tile(1, weights="x" * 5000), "weights"),
    (tile(1, compute_dtype="bfloat16"), "compute_dtype"),
    (tile(1, spatial_tile=16), "spatial_tile"),
    (tile(0), "times"),
    (tile(1, times=tile(0).times + 0.28), "times"),
    (tile(1, frames=4, first_frame=2), "latent step"),
]


@pytest.mark.parametrize(("second", "named"), UNLIKE, ids=[f"{i} {named}" for i, (_, named) in enumerate(UNLIKE)])
def test_tiles_that_do_not_fit_the_first(second, named, tmp_path):
    with refused("a.atok", named):
        written(tmp_path / "a.atok", tile(0), second)
    assert list(tmp_path.iterdir()) == []


def test_codes_of_other_levels(tmp_path):
    codes = tile(1, kind="discrete", fsq=((64, 64),) * 8)
    with refused("a.atok", "fsq"):
        written(tmp_path / "a.atok", tile(0, kind="discrete"), codes)


def test_only_the_last_tile_ends_inside_a_step(tmp_path):
    with refused("a.atok", "latent step"):
        written(tmp_path / "a.atok", tile(0, frames=7), tile(1))


def test_the_first_tile_may_begin_inside(tmp_path):
    first = tile(0).frames(3, 8)
    path = written(tmp_path / "a.atok", first, tile(1))
    loaded = Tokens.load(path)
    assert (loaded.first_frame, len(loaded.times)) == (3, 13)
    assert torch.equal(loaded.values, torch.cat([first.values, tile(1).values]))


def test_tokens_changed_in_place_are_not_written(tmp_path):
    bad = replace(tile(0))
    bad.values[3] = torch.inf
    with refused("infinite"):
        written(tmp_path / "a.atok", bad)


def test_a_writer_keeps_no_tensor_of_a_tile(tmp_path):
    with TokenWriter(tmp_path / "a.atok") as writer:
        writer.write(tile(0))
        first = set(map(id, tensors_of(writer)))
        for number in range(1, 4):
            writer.write(tile(number))
        assert set(map(id, tensors_of(writer))) == first


def tensors_of(thing, depth=4):
    """All tensors that can be reached from an object."""
    if isinstance(thing, torch.Tensor):
        return [thing]
    items = thing.values() if isinstance(thing, dict) else thing if isinstance(thing, list | tuple) else ()
    items = [*items, *vars(thing).values()] if hasattr(thing, "__dict__") else list(items)
    return [tensor for item in items for tensor in tensors_of(item, depth - 1)] if depth else []
