"""The pieces: rotary positions, QK norm, position table, posterior, pooling."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from atoken import PRESETS, AToken, Packed
from atoken.nn.attention import SelfAttention
from atoken.nn.block import Mlp
from atoken.nn.layout import build_layout
from atoken.nn.norm import QKNorm, RMSNorm
from atoken.nn.packed import dense_coords
from atoken.nn.pooling import AttentionPooling
from atoken.nn.position import PositionTable
from atoken.nn.posterior import Posterior
from atoken.nn.rope import RotatedHeads, rope_table, rotate, rotate_heads
from refusals import refused


def test_rope_keeps_lengths_and_does_nothing_at_the_origin():
    x = torch.randn(5, 3, 32)
    positions = torch.randint(0, 60, (5, 4))
    turned = rotate(x, rope_table(positions, 32))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(rotate(x, rope_table(torch.zeros(5, 4, dtype=torch.long), 32)), x)


def test_rope_scores_depend_on_differences_alone():
    q, k = torch.randn(2, 1, 1, 32).unbind()
    for _ in range(10):
        a, b, shift = torch.randint(0, 40, (3, 1, 4)).unbind()
        here, there = (
            (rotate(q, rope_table(a + s, 32)) * rotate(k, rope_table(b + s, 32))).sum() for s in (0 * shift, shift)
        )
        torch.testing.assert_close(here, there, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("axis", range(4))
def test_each_axis_turns_its_own_eighth_of_the_pairs(axis):
    positions = torch.zeros(1, 4, dtype=torch.long)
    positions[0, axis] = 3
    table = rope_table(positions, 72)
    assert (table.shape, table.dtype) == ((1, 1, 36), torch.complex64)
    turned = (table[0, 0].angle() != 0).nonzero()[:, 0]
    assert turned.tolist() == list(range(9 * axis, 9 * axis + 9))
    expected = 3 * 10000.0 ** (-torch.arange(9) / 72)
    torch.testing.assert_close(table[0, 0, turned], torch.polar(torch.ones(9), expected))


def test_the_head_norm_is_its_formula_and_survives_zeros():
    norm = QKNorm(3, 8)
    torch.nn.init.normal_(norm.gamma)
    x = torch.randn(5, 3, 8)
    torch.testing.assert_close(norm(x), F.normalize(x, dim=-1) * norm.gamma * 8**0.5)
    assert torch.equal(norm(torch.zeros(1, 3, 8)), torch.zeros(1, 3, 8))
    assert norm(x.bfloat16()).dtype == torch.float32


def test_the_rms_norm_is_its_formula():
    norm = RMSNorm(16)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(4, 16)
    torch.testing.assert_close(norm(x), x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight)
    assert norm(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("norm", "formula"),
    [
        (QKNorm(3, 8), lambda x, norm: F.normalize(x, dim=-1) * norm.gamma * 8**0.5),
        (RMSNorm(8), lambda x, norm: F.rms_norm(x, (8,), norm.weight, 1e-6)),
    ],
)
def test_the_norms_have_the_gradients_of_their_formulas(norm, formula):
    (gain,) = norm.parameters()
    torch.nn.init.normal_(gain)
    x, direction = torch.randn(2, 5, 3, 8).unbind()
    x.requires_grad_()
    ours, theirs = (torch.autograd.grad((y * direction).sum(), (x, gain)) for y in (norm(x), formula(x, norm)))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("qk_norm", [True, False])
def test_heads_rotated_in_place_are_those_of_the_plain_way_and_so_are_their_gradients(qk_norm):
    attention = SelfAttention(32, 2, bias=False, qk_norm=qk_norm)
    for norm in (attention.q_rms_norm, attention.k_rms_norm):
        for gain in norm.parameters():
            torch.nn.init.normal_(gain)
    qkv = torch.randn(7, 3, 2, 16, requires_grad=True)
    table = rope_table(torch.randint(0, 9, (7, 4)), 16)
    q, k, v = qkv.unbind(1)
    plain = rotate(attention.q_rms_norm(q), table), rotate(attention.k_rms_norm(k), table), v
    quick = RotatedHeads.apply(qkv, attention._gain(), table)
    torch.testing.assert_close(quick, plain)
    directions = torch.randn(3, 7, 2, 16)
    inputs = (qkv, *attention.q_rms_norm.parameters(), *attention.k_rms_norm.parameters())
    ours, theirs = (torch.autograd.grad(torch.stack(heads), inputs, directions) for heads in (quick, plain))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("part", [1, 2**16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("qk_norm", [True, False])
@torch.no_grad()
def test_a_few_rows_at_a_time_give_what_all_give_at_once(qk_norm, dtype, part, monkeypatch):
    monkeypatch.setattr("atoken.nn.norm.PART", part)
    attention, norm = SelfAttention(32, 2, bias=False, qk_norm=qk_norm).to(dtype), RMSNorm(32)
    table, x = rope_table(torch.randint(0, 9, (7, 4)), 16), torch.randn(7, 32).to(dtype)
    qkv = attention._qkv(x)
    heads = zip((attention.q_rms_norm, attention.k_rms_norm), qkv.unbind(1), strict=False)
    plain = *(rotate(normed(own), table).to(dtype) for normed, own in heads), qkv[:, 2]
    torch.testing.assert_close(rotate_heads(qkv, attention._gain(), table), plain)
    torch.testing.assert_close(norm(x), F.rms_norm(x.float(), (32,), norm.weight, 1e-6).to(dtype))


def test_attention_that_learns_takes_the_quick_way_to_the_same_numbers():
    attention = SelfAttention(32, 2, bias=False, qk_norm=True)
    coords = torch.cat([torch.zeros(6, 1, dtype=torch.int32), dense_coords((1, 2, 3, 1))], 1)
    layout, x = build_layout(coords, 4, 16), torch.randn(6, 32)
    learning = attention(x, layout.rope, layout.spans)
    with torch.no_grad():
        torch.testing.assert_close(attention(x, layout.rope, layout.spans), learning)


def test_the_position_table_is_read_as_it_is_at_its_own_size():
    table = PositionTable(16, 8)
    coords = torch.cat([torch.zeros(256, 1, dtype=torch.int32), dense_coords((1, 16, 16, 1))], 1)
    assert torch.equal(table(build_layout(coords, 4, 8)), table.position_embedding.weight)


def test_the_position_table_is_resized_to_each_picture():
    table = PositionTable(16, 8)
    grids = [(1, 5, 40, 1), (1, 16, 16, 1), (2, 5, 40, 1)]
    packed = Packed.cat([(torch.zeros(len(c), 1), c) for c in map(dense_coords, grids)])
    layout = build_layout(packed.coords, 4, 8)
    positions = layout.scatter(table(layout)).split(packed.lengths)
    square = table.position_embedding.weight.view(1, 16, 16, 8).permute(0, 3, 1, 2)
    wide = F.interpolate(square, (5, 40), mode="bilinear", antialias=True)[0].flatten(1).T
    torch.testing.assert_close(positions[0], wide)
    torch.testing.assert_close(positions[2], wide.repeat(2, 1))  # time gets nothing from the table
    assert layout.grids == ((5, 40), (16, 16))


@pytest.mark.parametrize("grid", [(1, 1), (20, 1), (3, 1), (1, 5), (7, 40)])
def test_resized_entries_are_weighted_by_a_triangle(grid):
    """At place i of n, entry j of a side of S weighs 1 - |j + 1/2 - (i + 1/2) S / n| / max(1, S / n), if positive."""
    table = PositionTable(16, 8)
    weights = []
    for length in grid:
        centre = (torch.arange(length) + 0.5) * 16 / length
        weight = 1 - (torch.arange(16) + 0.5 - centre[:, None]).abs() / max(1, 16 / length)
        weights.append(weight.clamp(min=0) / weight.clamp(min=0).sum(1, keepdim=True))
    square = table.position_embedding.weight.view(16, 16, 8)
    expected = torch.einsum("ri,cj,ijw->rcw", *weights, square).flatten(0, 1)
    coords = dense_coords((1, *grid, 1))
    packed = Packed.cat([(torch.zeros(len(coords), 1), coords)])
    found = table(packed.layout(4, 8))
    torch.testing.assert_close(found, expected)
    seed = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad(each, table.position_embedding.weight, seed)[0] for each in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_the_posterior_samples_around_its_mean():
    moments = torch.cat([torch.full((4000, 2), 3.0), torch.tensor([[-2.0, 1.0]]).expand(4000, 2)], 1)
    posterior = Posterior(moments)
    assert torch.equal(posterior.mode(), posterior.mean)
    draw = posterior.sample(torch.Generator().manual_seed(5))
    torch.testing.assert_close(draw.mean(0), torch.full((2,), 3.0), atol=0.1, rtol=0)
    torch.testing.assert_close(draw.std(0), torch.tensor([-1.0, 0.5]).exp(), atol=0.05, rtol=0.05)
    assert torch.equal(draw, posterior.sample(torch.Generator().manual_seed(5)))
    assert not torch.equal(draw, posterior.sample(torch.Generator().manual_seed(6)))


def test_the_divergence_is_that_of_torch():
    moments = torch.randn(7, 10)
    mean, logvar = moments.chunk(2, -1)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, (0.5 * logvar).exp()), normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(Posterior(moments).kl(), expected)
    assert Posterior(torch.zeros(1, 10)).kl().item() == 0


@pytest.mark.parametrize("logvar", [200.0, -200.0, torch.inf, -torch.inf])
def test_extreme_log_variances_stay_finite(logvar):
    moments = torch.tensor([[0.5, logvar]], requires_grad=True)
    posterior = Posterior(moments)
    assert abs(posterior.logvar.item()) in (20, 30)
    (posterior.kl().sum() + posterior.at(torch.ones(1, 1)).sum()).backward()
    assert torch.isfinite(posterior.kl()).all()
    assert torch.isfinite(posterior.sample()).all()
    assert torch.isfinite(moments.grad).all()


def test_sampling_through_the_tokenizer():
    torch.manual_seed(0)
    model = AToken(PRESETS["tiny"]).eval()
    picture = torch.randint(256, (3, 20, 33), dtype=torch.uint8)

    def draw(seed):
        return model.encode(picture, sample=True, generator=torch.Generator().manual_seed(seed)).latents

    mean = model.encode(picture).latents
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert not torch.equal(draw(1), mean)
    assert torch.equal(mean, model.encode(picture).latents)
    with refused("discrete"):
        model.encode(picture, kind="discrete", sample=True)


@torch.no_grad()
def test_pooling_is_attention_then_mlp_then_unit_length():
    torch.manual_seed(0)
    head = AttentionPooling(32, 2, 64)
    tokens = torch.randn(9, 32)
    sample = torch.tensor([0] * 4 + [1] * 5)
    pooled = head(tokens, sample)
    for index, part in enumerate(tokens.split([4, 5])):
        keys, values = head.attention.to_kv(part).split(32, -1)
        query = head.attention.to_q(head.probe)
        scores = torch.einsum("hd,nhd->hn", query.view(2, 16), keys.view(-1, 2, 16)) / 4
        mixed = torch.einsum("hn,nhd->hd", scores.softmax(-1), values.view(-1, 2, 16)).flatten()
        h = head.attention.to_out(mixed)
        expected = F.normalize(h + head.mlp(head.layernorm(h)[None])[0], dim=-1)
        torch.testing.assert_close(pooled[index], expected, atol=1e-5, rtol=1e-5)


def test_pooling_does_not_depend_on_the_order_of_tokens():
    head = AttentionPooling(32, 2, 64)
    tokens, sample = torch.randn(9, 32), torch.zeros(9, dtype=torch.long)
    torch.testing.assert_close(head(tokens, sample), head(tokens[torch.randperm(9)], sample))


def test_large_pictures_are_scaled_down_to_be_embedded(monkeypatch):
    model = AToken(replace(PRESETS["tiny"], embed_tokens=8)).eval()
    seen = []
    encode = model.encode_packed
    monkeypatch.setattr(model, "encode_packed", lambda packed: seen.append(packed.lengths) or encode(packed))
    ramp = torch.linspace(0, 255, 128).round().to(torch.uint8)
    vectors = model.embed([picture := ramp.expand(3, 64, 128), picture[:, ::2, ::2], picture[:, :3].repeat(1, 1, 9)])
    assert seen == [[8, 8, 8]]  # 2 x 4 patches twice, 1 x 8 of a strip
    torch.testing.assert_close(vectors[0], vectors[1], atol=2e-2, rtol=0)
    assert (vectors[0] - vectors[2]).abs().max() > 2e-2
    with refused("embed_tokens"):
        replace(PRESETS["tiny"], embed_tokens=0)


def test_embeddings_are_unit_vectors_one_for_each_picture():
    model = AToken(PRESETS["tiny"]).eval()
    pictures = [torch.randint(256, (3, h, w), dtype=torch.uint8) for h, w in ((20, 33), (16, 16), (5, 70))]
    vectors = model.embed(pictures)
    assert (vectors.shape, vectors.dtype, vectors.requires_grad) == ((3, 64), torch.float32, False)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(vectors[1], model.embed(pictures[1])[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("gelu", ["tanh", "none"])
@pytest.mark.parametrize("learning", [False, True])
def test_gelu_of_a_block_is_the_one_its_config_names(gelu, learning):
    torch.manual_seed(0)
    model = AToken(replace(PRESETS["tiny"], gelu=gelu))
    for mlp in (model.encoder.blocks[0].mlp, model.decoder.blocks[0].mlp, Mlp(8, 16, bias=False, gelu=gelu)):
        up, _, down = mlp.mlp
        x = torch.randn(5, up.in_features)
        with torch.set_grad_enabled(learning):
            expected = down(F.gelu(up(x), approximate=gelu))
            torch.testing.assert_close(mlp(x), expected, atol=1e-6, rtol=1e-6)
    assert F.gelu(x, approximate="tanh").sub(F.gelu(x)).abs().max() > 1e-5
    with refused("gelu", "relu", "tanh"):
        replace(PRESETS["tiny"], gelu="relu")
