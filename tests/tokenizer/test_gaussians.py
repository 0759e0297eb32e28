"""The Gaussian head: the released computation, windows, and models that carry it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import atoken
from atoken import PRESETS, AToken, GaussianConfig, Packed
from atoken.gaussians.types import TENSORS
from atoken.tokenizer import gaussian_head as module
from atoken.tokenizer.gaussian_head import GaussianDecoder, Windows
from refusals import refused

TOLERANCE = {"atol": 2e-5, "rtol": 0.0}
SMALL = GaussianConfig(width=64, heads=1, depth=3, mlp_width=96, per_voxel=4)


@pytest.fixture(scope="module")
def head(golden):
    c = golden.config["gs"]
    head = GaussianDecoder(
        GaussianConfig(width=c["width"], heads=c["heads"], depth=c["blocks"], mlp_width=c["mlp"], window=c["window"])
    )
    state = {name[11:]: t.float() for name, t in golden.tensors.items() if name.startswith("gs_weights/")}
    head.load_state_dict(state)
    return head.requires_grad_(False)


def run(golden, head):
    coords = golden["gs/coords"]
    return head(golden.feats("gs"), torch.cat([torch.zeros_like(coords[:, :1]), coords], 1))


def test_the_released_computation(golden, head):
    found = run(golden, head)
    torch.testing.assert_close(found.means, golden["gs/xyz"], **TOLERANCE)
    torch.testing.assert_close(found.sh, golden["gs/features_dc"], **TOLERANCE)
    torch.testing.assert_close(found.scales, golden["gs/scaling"], **TOLERANCE)
    torch.testing.assert_close(found.rotations, golden["gs/rotation"], **TOLERANCE)
    torch.testing.assert_close(found.opacities[:, None], golden["gs/opacity"], **TOLERANCE)


@pytest.mark.slow
def test_the_perturbation_is_the_released_one(golden, head):
    fresh = GaussianDecoder(GaussianConfig())
    torch.testing.assert_close(fresh.offset_perturbation, golden["gs_weights/offset_perturbation"])


@pytest.fixture
def small():
    torch.manual_seed(0)
    head = GaussianDecoder(SMALL)
    torch.nn.init.normal_(head.out_layer.weight, std=0.2)
    return head.requires_grad_(False)


def cloud(count: int, seed: int = 0, size: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    places = torch.randperm(size**3, generator=generator)[:count].sort().values
    coords = torch.stack([places * 0, places // size**2, places // size % size, places % size], 1)
    return torch.rand(count, 768, generator=generator) * 2 - 1, coords


def test_attention_is_that_of_a_dense_mask_and_a_soft_cap(small):
    """Windows by grouping equal full-attention under a mask over all pairs, in even and odd blocks alike."""
    _, coords = cloud(300)
    for shift in (0, 4):
        attention = module.WindowAttention(64, 4).requires_grad_(False)
        attention.to_qkv.weight.mul_(30)  # logits far above the cap
        x = torch.randn(len(coords), 64)
        q, k, v = attention.to_qkv(x).view(-1, 3, 4, 16).double().permute(1, 2, 0, 3)
        logits = 30 * torch.tanh(q @ k.mT / 16**0.5 / 30)
        window = (coords[:, 1:] + shift) // 8
        same = (window[:, None] == window[None]).all(-1)
        weights = logits.masked_fill(~same, -torch.inf).softmax(-1)
        expected = attention.to_out((weights @ v).transpose(0, 1).flatten(1).float())
        windows = Windows.of(coords, 8, shift)
        torch.testing.assert_close(attention(x, windows), expected, atol=5e-4, rtol=1e-4)
        qkv = attention.to_qkv(x)[windows.order].unflatten(1, (3, 4, -1))
        padded = attention.to_out(attention._few_launches(qkv, windows)[windows.inverse])
        torch.testing.assert_close(padded, expected, atol=5e-4, rtol=1e-4)
        assert len(windows.padded) < len(windows.spans.runs)


def test_samples_do_not_see_each_other_and_order_does_not_matter(small):
    (feats, coords), (more_feats, more) = cloud(200), cloud(70, seed=1)
    alone, other = small(feats, coords), small(more_feats, more)
    more = more + torch.tensor([1, 0, 0, 0])
    together = small(torch.cat([feats, more_feats]), torch.cat([coords, more])).split([800, 280])
    for part, expected in zip(together, (alone, other), strict=True):
        torch.testing.assert_close(part.means, expected.means)
        torch.testing.assert_close(part.logits, expected.logits, atol=1e-5, rtol=1e-5)
    shuffle = torch.randperm(200)
    shuffled = small(feats[shuffle], coords[shuffle])
    torch.testing.assert_close(shuffled.sh.view(200, 4, 3), alone.sh.view(200, 4, 3)[shuffle], atol=1e-5, rtol=1e-5)


def test_a_fresh_head_spreads_faint_grey_gaussians_over_its_voxel():
    head = GaussianDecoder(replace(SMALL, resolution=32, scale=8e-3)).requires_grad_(False)
    feats, coords = cloud(50)
    found = head(feats, coords)
    centres = ((coords[:, 1:] + 0.5) / 32 - 0.5).repeat_interleave(4, 0)
    assert float((found.means - centres).abs().max()) <= 0.75 / 32
    torch.testing.assert_close(found.opacities, torch.full((200,), 0.1))
    torch.testing.assert_close(found.scales, torch.full((200, 3), (8e-3**2 + 9e-4**2) ** 0.5))
    assert torch.equal(found.rgb, torch.full((200, 3), 0.5))


def test_a_residual_head_starts_with_balls_of_the_patches_colours():
    feats, coords = cloud(5)
    head = GaussianDecoder(replace(SMALL, residual=True, scale=0.01, opacity=0.7)).requires_grad_(False)
    balls = head(feats, coords)
    expected = (feats.unflatten(1, (256, 3)).mean(1) / 2 + 0.5).repeat_interleave(4, 0)
    torch.testing.assert_close(balls.rgb, expected)
    torch.testing.assert_close(balls.opacities, torch.full((20,), 0.7))
    torch.testing.assert_close(balls.scales, torch.full((20, 3), 0.01), rtol=0.01, atol=0)
    centres = (coords[:, 1:] + 0.5) / 64 - 0.5
    assert float((balls.means - centres.repeat_interleave(4, 0)).abs().max()) <= 0.5 / 64


def test_which_voxels_around_are_occupied():
    _, coords = cloud(400, size=8)  # dense, and with voxels at the edges of the grid
    coords = torch.cat([coords[:300], coords[300:] + torch.tensor([1, 0, 0, 0])])
    occupied = {tuple(place) for place in coords.tolist()}
    for reach in (1, 2):
        span = range(-reach, reach + 1)
        expected = [
            [(b, x + i, y + j, z + k) in occupied for i in span for j in span for k in span]
            for b, x, y, z in coords.tolist()
        ]
        assert torch.equal(module.occupancy(coords, reach, 8), torch.tensor(expected))


def test_neighbours_change_nothing_before_they_have_learnt(small):
    """And then a voxel's Gaussians depend on them, in each sample alone."""
    told = GaussianDecoder(replace(SMALL, neighbours=2)).requires_grad_(False)
    missing, unexpected = told.load_state_dict(small.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith("surroundings.") for name in missing)
    (feats, coords), (more_feats, more) = cloud(200), cloud(70, seed=1)
    assert torch.equal(told(feats, coords).means, small(feats, coords).means)
    torch.nn.init.normal_(told.surroundings.down.weight)
    alone = told(feats, coords)
    assert not torch.allclose(alone.means, small(feats, coords).means, atol=1e-4)
    joined = torch.cat([coords, more + torch.tensor([1, 0, 0, 0])])
    together = told(torch.cat([feats, more_feats]), joined).split([800, 280])[0]
    torch.testing.assert_close(together.means, alone.means)


def test_a_voxel_outside_the_grid(small):
    feats, coords = cloud(3)
    coords[1, 2] = 64
    with refused("voxels", 63):
        small(feats, coords)


@pytest.mark.parametrize(
    "change",
    [
        {"heads": 5},
        {"per_voxel": 0},
        {"window": 7},
        {"opacity": 1.0},
        {"neighbours": -1},
        {"neighbours": 10**400},
        {"resolution": 2**40},
    ],
)
def test_configs_that_do_not_fit(change):
    (name, value), *_ = change.items()
    with refused(name, str(value)[:20]):
        GaussianConfig(**change)


def test_a_model_with_a_head_survives_saving(tmp_path):
    torch.manual_seed(0)
    model = AToken(replace(PRESETS["tiny"], gaussians=SMALL)).eval()
    torch.nn.init.normal_(model.gaussians.out_layer.weight)
    model.save_pretrained(tmp_path / "model")
    loaded = atoken.load(tmp_path / "model")
    assert loaded.config == model.config
    packed = Packed.cat([(torch.randn(30, 48), cloud(30)[1].int())])
    with torch.no_grad():
        ours, theirs = model.decode_gaussians(packed), loaded.decode_gaussians(packed)
    assert all(torch.equal(getattr(ours, name), getattr(theirs, name)) for name in TENSORS)


def released_head(path):
    state = {name: t.clone() for name, t in GaussianDecoder(SMALL).state_dict().items()}
    torch.save(state, path)
    return path, state


def test_a_released_head_beside_a_tokenizer(tmp_path):
    torch.manual_seed(0)
    AToken(PRESETS["tiny"]).save_pretrained(tmp_path / "model")
    path, state = released_head(tmp_path / "3d_decode_gs.pt")
    plain = atoken.load(tmp_path / "model", dtype=torch.bfloat16)
    model = atoken.load(tmp_path / "model", gaussians=path, dtype=torch.bfloat16)
    assert model.config.gaussians == SMALL
    assert model.weights_hash == plain.weights_hash, "the head does not change what tokens mean"
    assert model.gaussians.out_layer.weight.dtype == torch.bfloat16
    assert torch.equal(model.gaussians.offset_perturbation, state["offset_perturbation"]), "buffers stay exact"


def test_heads_that_are_none(tmp_path):
    torch.manual_seed(0)
    AToken(PRESETS["tiny"]).save_pretrained(tmp_path / "model")
    with refused("gone.pt", error=FileNotFoundError):
        atoken.load(tmp_path / "model", gaussians=tmp_path / "gone.pt")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    with refused("other.pt", "input_layer.weight"):
        atoken.load(tmp_path / "model", gaussians=tmp_path / "other.pt")
    path, state = released_head(tmp_path / "3d_decode_gs.pt")
    torch.save({name: t for name, t in state.items() if name != "blocks.1.norm1.weight"}, path)
    with refused("gaussians.blocks.1.norm1.weight"):
        atoken.load(tmp_path / "model", gaussians=path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda s: {n: t for n, t in s.items() if not n.startswith("blocks.0")},
            "blocks.0.mlp.mlp.0.weight",
        ),
        (lambda s: {**s, "blocks.999999999.x": torch.zeros(1)}, "blocks.999999999"),
        (lambda s: {**s, "input_layer.weight": torch.zeros(())}, "input_layer.weight"),
        (lambda s: {**s, "offset_perturbation": torch.zeros(96)}, "offset_perturbation has shape [96]"),
        (lambda s: {**s, "offset_perturbation": torch.zeros(32, 3).int()}, "offset_perturbation is int32"),
    ],
)
def test_heads_that_do_not_fit_together(tmp_path, change, words):
    torch.manual_seed(0)
    AToken(PRESETS["tiny"]).save_pretrained(tmp_path / "model")
    path, state = released_head(tmp_path / "3d_decode_gs.pt")
    torch.save(change(state), path)
    with refused("3d_decode_gs.pt", words):
        atoken.load(tmp_path / "model", gaussians=path)


def test_tokens_of_another_grid_than_the_heads():
    model = AToken(replace(PRESETS["tiny"], gaussians=replace(SMALL, resolution=16)))
    coords = torch.tensor([[0, 1, 2, 3], [0, 31, 31, 31]], dtype=torch.int32)
    tokens = model.stamp(
        *("continuous", torch.zeros(2, 48), coords), modality="3d", grid=(1, 32, 32, 32), size=(8, 8), box=(0, 0, 8, 8)
    )
    with refused(16, (1, 32, 32, 32)):
        model.decode(tokens)


def test_a_model_without_a_head_says_what_to_load():
    with refused("tiny", "Gaussian head", "atoken convert --gaussians"):
        AToken(PRESETS["tiny"]).decode_gaussians(Packed.cat([(torch.randn(3, 48), cloud(3)[1].int())]))
