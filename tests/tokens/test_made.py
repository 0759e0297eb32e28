"""Tokens that were made elsewhere: no hash, size or time by hand, and nothing out of range passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from atoken import PRESETS, AToken, Clip, GaussianConfig, Tokens
from refusals import refused

HEAD = GaussianConfig(width=24, heads=4, depth=1, mlp_width=24, per_voxel=2, resolution=8, window=4)
INTEGERS = (torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64)
UNEQUAL = ((16, 4), (8,) * 4, (2,) * 8, (4,) * 6, (8,) * 4, (4,) * 6, (4,) * 6, (4,) * 4, (4,) * 6, (2,) * 2)
"""Forty-eight numbers in codebooks of 64, 4096, 256, 4096, 4096, 4096, 4096, 256, 4096 and 4."""


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = replace(PRESETS["tiny"], gaussians=HEAD, fsq_levels=UNEQUAL, spatial_tile=64)
    return AToken(config).eval()


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def clip():
    return Clip(np.random.default_rng(1).integers(0, 256, (20, 32, 48, 3), dtype=np.uint8), fps=8)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_indices_of_any_integer_dtype_decode_to_what_their_tokens_do(model, picture, dtype):
    tokens = model.encode(picture, kind="discrete")
    small = tokens.codes.int() % 4  # inside of every codebook and every dtype
    wanted = model.decode(replace(tokens, values=small.to(torch.uint16)))
    assert np.array_equal(model.decode_codes(small.to(dtype), grid=(2, 3)), wanted)
    array = small.numpy().astype(str(dtype).removeprefix("torch."))
    assert np.array_equal(model.decode_codes(array, grid=(2, 3)), wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_latents_of_any_float_dtype_decode_to_what_their_tokens_do(model, picture, dtype):
    tokens = model.encode(picture)
    latents = tokens.latents.to(dtype)
    wanted = model.decode(replace(tokens, values=latents))
    assert np.array_equal(model.decode_latents(latents.requires_grad_(), grid=(2, 3)), wanted)


def test_batches_decode_to_lists_and_tensors(model, picture):
    codes = model.encode([picture, picture[::-1].copy()], kind="discrete")
    batch = torch.stack([item.codes.long() for item in codes])
    wanted = model.decode(codes, as_tensor=True, value_range=(0, 1))
    assert torch.equal(model.decode_codes(batch, grid=(2, 3), as_tensor=True, value_range=(0, 1)), wanted)
    assert all(map(np.array_equal, model.decode_codes(batch, grid=(2, 3)), model.decode(codes)))
    latents = torch.randn(2, 6, 48)
    assert model.decode_latents(latents, grid=(2, 3), as_tensor=True).shape == (2, 3, 32, 48)


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_clips_need_only_their_rate(model, clip, kind):
    tokens = model.encode(clip, kind=kind)
    make = Tokens.from_indices if kind == "discrete" else Tokens.from_latents
    made = make(tokens.values, model=model, grid=(5, 2, 3), fps=8)
    assert torch.equal(made.times, tokens.times)
    assert made == replace(tokens, compute_dtype=None)
    decode = model.decode_codes if kind == "discrete" else model.decode_latents
    assert np.array_equal(decode(tokens.values, grid=tokens.grid, fps=8), model.decode(tokens))


def test_voxels_need_only_their_coordinates(model):
    generator = torch.Generator().manual_seed(0)
    coords = torch.cartesian_prod(*[torch.arange(8)] * 3)[torch.randperm(512, generator=generator)[:40]]
    latents = torch.randn(40, 48, generator=generator)
    gaussians = model.decode_latents(latents, coords=coords)
    assert len(gaussians.means) == 80
    voxel = ((gaussians.means + 0.5) * 8).view(40, 2, 3) - coords[:, None] - 0.5
    assert voxel.abs().max() <= 0.75 + 1e-3  # each Gaussian stays in a cube of 1.5 voxels about its own
    tokens = Tokens.from_latents(latents, model=model, coords=coords.numpy())
    assert (tokens.grid, tokens.modality) == ((1, 8, 8, 8), "3d")
    codes = model.decode_codes(torch.zeros(40, 10, dtype=torch.int64), coords=coords)
    assert len(codes.means) == 80


def test_large_grids_have_the_tile_that_encode_gives_them(model):
    picture = np.random.default_rng(2).integers(0, 256, (96, 160, 3), dtype=np.uint8)
    tokens = model.encode(picture)
    assert tokens.spatial_tile == 64
    made = Tokens.from_latents(tokens.latents, model=model, grid=(6, 10))
    assert made == replace(tokens, compute_dtype=None)
    assert np.array_equal(model.decode_latents(tokens.latents, grid=(6, 10)), model.decode(tokens))
    whole = model.encode(picture, spatial_tile=0)
    assert np.array_equal(model.decode_latents(whole.latents, grid=(6, 10), spatial_tile=0), model.decode(whole))


def test_made_tokens_are_saved_and_loaded(model, picture, tmp_path):
    made = Tokens.from_indices(model.encode(picture, kind="discrete").codes, model=model, grid=(2, 3))
    made.save(tmp_path / "made.atok")
    assert Tokens.load(tmp_path / "made.atok") == made


@pytest.mark.parametrize("offset", [0, 100_000, list(range(0, 50_000, 5_000)), [7] * 10])
def test_ids_and_codes_are_inverses(model, picture, offset):
    tokens = model.encode(picture, kind="discrete")
    ids = tokens.to_ids(offset)
    assert ids.dtype == torch.int64
    made = Tokens.from_ids(ids, model=model, grid=(2, 3), offset=offset)
    assert torch.equal(made.codes, tokens.codes)
    assert torch.equal(made.to_ids(offset), ids)


def test_each_codebook_has_ids_of_its_own(model, picture):
    assert model.vocab_size == (64, 4096, 256, 4096, 4096, 4096, 4096, 256, 4096, 4)
    assert model.num_codebooks == 10
    last = torch.tensor([model.vocab_size]).repeat(6, 1) - 1
    ids = Tokens.from_indices(last, model=model, grid=(2, 3)).to_ids(5)[0].tolist()
    assert ids == [4 + sum(model.vocab_size[: index + 1]) for index in range(10)]


@pytest.mark.parametrize(
    ("codebook", "value", "named"),
    [(0, 64, ("64", "0 ... 63", "codebook 0")), (9, 4, ("4", "0 ... 3", "codebook 9")), (1, -1, ("-1", "codebook 1"))],
)
def test_an_index_outside_of_its_codebook_is_refused_by_value(model, codebook, value, named):
    indices = torch.zeros(6, 10, dtype=torch.int64)
    indices[4, codebook] = value
    with refused(*named):
        model.decode_codes(indices, grid=(2, 3))
    with refused(*named):
        model.decode_codes(indices.numpy(), grid=(2, 3))
    with refused(str(value + 7 + sum(model.vocab_size[:codebook]))):
        Tokens.from_ids(indices + Tokens.from_indices(indices * 0, model=model, grid=(2, 3)).to_ids(7), model=model,
                        grid=(2, 3), offset=7)  # fmt: skip


CODES, LATENTS = torch.zeros(6, 10, dtype=torch.int64), torch.zeros(6, 48)


@pytest.mark.parametrize(
    ("call", "values", "geometry", "named"),
    [
        ("decode_codes", CODES.float(), {"grid": (2, 3)}, ("integers", "float32")),
        ("decode_codes", CODES.bool(), {"grid": (2, 3)}, ("integers", "bool")),
        ("decode_codes", CODES[:, :8], {"grid": (2, 3)}, ("10 codes", "[6, 8]")),
        ("decode_codes", CODES, {"grid": (3, 3)}, ("6 tokens", "(1, 3, 3, 1)")),
        ("decode_codes", CODES, {}, ("grid",)),
        ("decode_codes", CODES, {"grid": 6}, ("grid", "6")),
        ("decode_codes", CODES, {"grid": (2, 0)}, ("grid", "(2, 0)")),
        ("decode_codes", CODES, {"grid": (3, 1, 2)}, ("fps", "3 steps")),
        ("decode_codes", CODES, {"grid": (3, 1, 2), "fps": 0}, ("fps", "0")),
        ("decode_codes", CODES, {"grid": (1, 2, 3, 2)}, ("grid", "coords")),
        ("decode_codes", CODES, {"coords": torch.zeros(6, 3, dtype=torch.int64), "grid": 6}, ("grid",)),
        ("decode_codes", CODES, {"coords": torch.zeros(6, 3)}, ("coords", "float32")),
        ("decode_codes", CODES, {"coords": torch.zeros(6, 3, dtype=torch.int64)}, ("same coords",)),
        ("decode_codes", CODES, {"coords": 9 * torch.eye(6, 3, dtype=torch.int64)}, ("outside", "(1, 8, 8, 8)")),
        ("decode_codes", CODES, {"coords": torch.zeros(6, 3, dtype=torch.int64), "fps": 8}, ("coords", "fps")),
        ("decode_latents", LATENTS.int(), {"grid": (2, 3)}, ("floats", "int32")),
        ("decode_latents", LATENTS[:, :47], {"grid": (2, 3)}, ("48", "[6, 47]")),
        ("decode_latents", LATENTS / 0, {"grid": (2, 3)}, ("NaN",)),
    ],
)
def test_what_does_not_fit_is_refused_by_name(model, call, values, geometry, named):
    with refused(*named):
        getattr(model, call)(values, **geometry)


def test_models_of_one_kind_refuse_the_other():
    continuous = AToken(replace(PRESETS["tiny"], name="soft", kinds=("continuous",)))
    discrete = AToken(replace(PRESETS["tiny"], name="hard", kinds=("discrete",)))
    with refused("soft", "discrete"):
        continuous.decode_codes(CODES, grid=(2, 3))
    with refused("soft", "discrete"):
        _ = continuous.num_codebooks
    with refused("hard", "continuous"):
        discrete.decode_latents(LATENTS, grid=(2, 3))
    with refused("offset", "8 codebooks"):
        discrete.encode(np.zeros((16, 16, 3), np.uint8)).to_ids([0, 5])
    with refused("continuous"):
        continuous.encode(np.zeros((16, 16, 3), np.uint8)).to_ids()
