"""Layers that any network here uses, against plain formulas over each segment alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from atoken.nn.adaln import AdaLNBlock, SwiGLU
from atoken.nn.attention import CrossAttention, SelfAttention, attend
from atoken.nn.cache import KVCache
from atoken.nn.layout import Spans
from atoken.nn.rope import rope_table, rotate
from refusals import refused

LENGTHS = [3, 3, 5, 1]
CPU = torch.device("cpu")


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plain(q: Tensor, k: Tensor, v: Tensor, queries: list[int], keys: list[int], causal: bool) -> Tensor:
    """The formula, segment by segment and in fp64: a twin of ``attend``."""
    out = []
    for a, b, c in zip(q.double().split(queries), k.double().split(keys), v.double().split(keys), strict=True):
        scores = torch.einsum("qhd,khd->hqk", a, b) * a.shape[-1] ** -0.5
        if causal:
            last = torch.arange(len(a))[:, None] + len(b) - len(a)
            scores = scores.masked_fill(torch.arange(len(b)) > last, -torch.inf)
        out.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), c))
    return torch.cat(out)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("keys", [LENGTHS, [4, 7, 5, 2]])
@pytest.mark.parametrize(("amx", "block"), [(True, 6), (False, 2**21), (False, 6)])
def test_attention_is_the_formula_in_each_segment(causal, keys, amx, block, monkeypatch):
    monkeypatch.setattr("atoken.nn.attention.has_amx", lambda: amx)
    monkeypatch.setattr("atoken.nn.attention.BLOCK", block)
    q, k, v = rand(sum(LENGTHS), 2, 8), rand(sum(keys), 2, 8, seed=1), rand(sum(keys), 2, 8, seed=2)
    spans = Spans.of(LENGTHS, keys, CPU)
    wanted = plain(q, k, v, LENGTHS, keys, causal)
    assert_close(attend(q, k, v, spans, causal=causal).double(), wanted, rtol=1e-5, atol=1e-5)
    # bf16 has 8 bits: inputs, scores, weights and outputs are each rounded to 2^-9 of numbers near 1
    with torch.no_grad():
        half = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), spans, causal=causal)
    assert_close(half.double(), wanted, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("causal", [False, True])
def test_training_in_bf16_has_the_gradients_of_the_formula(causal):
    inputs = [rand(sum(LENGTHS), 2, 8, seed=seed).requires_grad_() for seed in range(3)]
    spans = Spans.of(LENGTHS, LENGTHS, CPU)
    half = [x.bfloat16() for x in inputs]
    attend(*half, spans, causal=causal).float().square().sum().backward()
    found = [x.grad.clone() for x in inputs if x.grad is not None]
    for x in inputs:
        x.grad = None
    plain(*inputs, LENGTHS, LENGTHS, causal).square().sum().backward()
    for x, gradient in zip(inputs, found, strict=True):
        assert x.grad is not None
        error = (gradient - x.grad).norm() / x.grad.norm()
        assert error < 0.05  # a dozen bf16 roundings of 2^-9 each, on the way there and back


def test_a_cache_that_grows_gives_the_causal_network_on_the_whole():
    layer = SelfAttention(16, 2, bias=True, qk_norm=True)
    x, positions = rand(sum(LENGTHS), 16), torch.cat([torch.arange(n) for n in LENGTHS])[:, None]
    rope = rope_table(positions, 8)
    whole = layer(x, rope, Spans.of(LENGTHS, LENGTHS, CPU), causal=True).split(LENGTHS)
    cache = KVCache(1)
    cuts = [[1, 2, 2, 1], [1, 1, 2, 0], [1, 0, 1, 0]]
    segments = [list(part.split([cut[i] for cut in cuts])) for i, part in enumerate(x.split(LENGTHS))]
    turns = [list(part.split([cut[i] for cut in cuts])) for i, part in enumerate(rope.split(LENGTHS))]
    step = cache.append(cuts[0])
    first = layer(
        torch.cat([s[0] for s in segments]),
        torch.cat([t[0] for t in turns]),
        step.spans,
        (cache.layers[0], step),
        causal=True,
    )
    for found, wanted in zip(first.split(cuts[0]), whole, strict=True):
        assert_close(found, wanted[: len(found)])
    with refused("4", "0"):
        cache.append(cuts[1])
    with refused("4"):
        cache.append([1, 1])


@pytest.mark.parametrize("steps", [[4, 1, 1], [1, 2, 3]])
def test_tokens_one_by_one_are_tokens_at_once(steps):
    layer = SelfAttention(16, 2, bias=True, qk_norm=True)
    x = rand(2, sum(steps), 16)
    rope = rope_table(torch.arange(sum(steps))[:, None], 8)
    count = sum(steps)
    whole = layer(x.flatten(0, 1), rope.repeat(2, 1, 1), Spans.of([count] * 2, [count] * 2, CPU), causal=True)
    cache, at, found = KVCache(1), 0, []
    for n in steps:
        step = cache.append([n, n])
        part = x[:, at : at + n].flatten(0, 1)
        turned = rope[at : at + n].repeat(2, 1, 1)
        found.append(layer(part, turned, step.spans, (cache.layers[0], step), causal=True).unflatten(0, (2, n)))
        at += n
    assert_close(torch.cat(found, 1).flatten(0, 1), whole)


def test_cross_attention_sees_its_own_context_alone():
    layer = CrossAttention(16, 2, context_width=6)
    query, context = rand(5, 16), rand(7, 6, seed=1)
    together = layer(query, context, Spans.of([2, 3], [4, 3], CPU))
    alone = [
        layer(q, c, Spans.of([len(q)], [len(c)], CPU))
        for q, c in zip(query.split([2, 3]), context.split([4, 3]), strict=True)
    ]
    assert_close(together, torch.cat(alone))


def test_swiglu_is_its_formula():
    layer = SwiGLU(8, 12)
    x = rand(5, 8)
    gate, up = layer.gate_up.weight.chunk(2)
    first, second = layer.gate_up.bias.chunk(2)
    a, b = x @ gate.mT + first, x @ up.mT + second
    assert_close(layer(x), (a * a.sigmoid() * b) @ layer.down.weight.mT + layer.down.bias)


def test_a_new_adaln_block_changes_nothing_and_a_trained_one_listens_to_its_own_condition():
    block = AdaLNBlock(16, 2, 24, cond_width=10, context_width=6)
    x, cond, context = rand(6, 16), rand(2, 10, seed=1), rand(5, 6, seed=2)
    sample = torch.tensor([0, 0, 1, 1, 1, 1])
    rope = rope_table(torch.arange(6)[:, None].expand(-1, 4), 8)
    spans, seen = Spans.of([2, 4], [2, 4], CPU), (context, Spans.of([2, 4], [3, 2], CPU))
    assert torch.equal(block(x, rope, spans, cond, sample, seen), x)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(3))
    before = block(x, rope, spans, cond, sample, seen)
    after = block(x, rope, spans, torch.stack([cond[0], -cond[1]]), sample, seen)
    assert_close(before[:2], after[:2])
    assert not torch.allclose(before[2:], after[2:], atol=1e-2)


@pytest.mark.parametrize(("axes", "head_dim", "pairs"), [(1, 8, [4]), (3, 64, [11, 11, 10]), (4, 72, [9, 9, 9, 9])])
@pytest.mark.parametrize("axial", [False, True])
def test_rotations_depend_on_differences_along_every_axis(axes, head_dim, pairs, axial):
    positions = torch.randint(0, 9, (2, axes), generator=torch.Generator().manual_seed(0))
    shift = torch.arange(1, axes + 1)
    q, k = rand(1, 1, head_dim), rand(1, 1, head_dim, seed=1)

    def product(at: Tensor) -> Tensor:
        table = rope_table(at, head_dim, axial=axial)
        return (rotate(q, table[:1]) * rotate(k, table[1:])).sum()

    assert_close(product(positions), product(positions + shift), rtol=1e-4, atol=1e-4)
    start = 0
    for axis, own in enumerate(pairs):
        moved = torch.zeros(1, axes)
        moved[0, axis] = 1.0
        angle = rope_table(moved, head_dim, axial=axial)[0, 0].angle()
        exponents = torch.arange(own) / (own if axial else head_dim)
        assert_close(angle[start : start + own], 10000.0**-exponents)
        assert not angle[:start].any()
        assert not angle[start + own :].any()
        start += own


def test_more_axes_than_pairs_are_refused():
    with refused("4", "6"):
        rope_table(torch.zeros(1, 4), 6)
