"""A packed batch is each sample alone, whatever their sizes and time tiles; and what is computed once is."""

from dataclasses import replace

import pytest
import torch

from atoken import PRESETS, AToken, Packed
from atoken.nn import cache as memory_module
from atoken.nn import layout as layout_module
from atoken.nn.attention import attend
from atoken.nn.layout import Spans, build_layout
from atoken.nn.packed import dense_coords
from atoken.nn.position import PositionTable
from refusals import refused

GRIDS = [
    (1, 3, 5, 1),
    (1, 1, 1, 1),
    (9, 2, 2, 1),
    (1, 5, 3, 1),
    (4, 2, 3, 1),
    (1, 3, 5, 1),
    (1, 17, 2, 1),
    (6, 2, 2, 1),
]
CLOSE = {"atol": 2e-5, "rtol": 1e-4}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return AToken(replace(PRESETS["tiny"], encoder_tile=4, decoder_tile=4)).eval()


def samples(channels):
    generator = torch.Generator().manual_seed(1)
    voxels = torch.tensor([[1, 3, 0, 7], [1, 3, 2, 1], [1, 4, 4, 4]], dtype=torch.int32)  # sparse, as 3D is
    places = [*(dense_coords(grid) for grid in GRIDS), voxels]
    return [(torch.randn(len(coords), channels, generator=generator), coords) for coords in places]


@torch.no_grad()
def test_encoding_a_batch_is_encoding_each_sample(model):
    items = samples(3072)
    packed = Packed.cat(items)
    out = model.encode_packed(packed)
    assert (out.hidden.shape, out.pooled.shape) == ((len(packed.feats), 64), (len(items), 64))
    for index, (item, moments, hidden) in enumerate(
        zip(items, out.moments.split(packed.lengths), out.hidden.split(packed.lengths), strict=True)
    ):
        alone = model.encode_packed(Packed.cat([item]))
        torch.testing.assert_close(moments, alone.moments, **CLOSE)
        torch.testing.assert_close(hidden, alone.hidden, **CLOSE)
        torch.testing.assert_close(out.pooled[index], alone.pooled[0], **CLOSE)


@pytest.mark.parametrize("cache", [0, 1, 4])
@torch.no_grad()
def test_decoding_a_batch_is_decoding_each_sample(model, cache):
    decoder = AToken(replace(model.config, decoder_cache=cache)).eval()
    decoder.load_state_dict(model.state_dict())
    items = samples(48)
    packed = Packed.cat(items)
    together = decoder.decode_packed(packed)
    assert together.shape == (len(packed.feats), 3072)
    for item, patches in zip(items, together.split(packed.lengths), strict=True):
        torch.testing.assert_close(patches, decoder.decode_packed(Packed.cat([item])), **CLOSE)


@torch.no_grad()
def test_time_tiles_do_not_see_each_other(model):
    feats, coords = samples(3072)[2]  # nine steps: tiles of 4, 4 and 1
    whole = model.encode_packed(Packed.cat([(feats, coords)]), pool=False).moments
    parts = [
        model.encode_packed(Packed.cat([(feats[at], coords[at])]), pool=False).moments
        for at in (coords[:, 0] // 4 == tile for tile in range(3))
    ]
    torch.testing.assert_close(whole, torch.cat(parts), **CLOSE)


@torch.no_grad()
def test_time_is_counted_from_the_first_step(model):
    feats, coords = samples(3072)[4]
    later = coords + torch.tensor([5, 0, 0, 0], dtype=torch.int32)
    first, second = (model.encode_packed(Packed.cat([(feats, at)]), pool=False).moments for at in (coords, later))
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize(("cache", "sees"), [(0, False), (1, True)])
@torch.no_grad()
def test_the_memory_joins_a_tile_to_the_one_before(model, cache, sees):
    decoder = AToken(replace(model.config, decoder_cache=cache)).eval()
    decoder.load_state_dict(model.state_dict())
    latents, coords = torch.randn(8 * 4, 48), dense_coords((8, 2, 2, 1))
    changed = latents.clone()
    changed[coords[:, 0] == 3] += 1  # the last step of the first tile
    before, after = (decoder.decode_packed(Packed.cat([(x, coords)]))[coords[:, 0] >= 4] for x in (latents, changed))
    assert torch.allclose(before, after, atol=1e-4) is not sees


@torch.no_grad()
def test_the_order_of_samples_does_not_matter(model):
    items = samples(3072)
    forward, backward = (model.encode_packed(Packed.cat(list(order))) for order in (items, reversed(items)))
    torch.testing.assert_close(forward.pooled, backward.pooled.flip(0), **CLOSE)


@torch.no_grad()
def test_frame_zero_alone_is_the_same_as_zeros_after_it(model):
    feats, coords = samples(3072)[0]
    feats[:, 768:] = 0
    whole, alone = (model.encode_packed(Packed.cat([(f, coords)])) for f in (feats, feats[:, :768].contiguous()))
    torch.testing.assert_close(whole.moments, alone.moments, **CLOSE)
    latents = Packed.cat([(torch.randn(len(coords), 48), coords)])
    torch.testing.assert_close(
        model.decode_packed(latents)[:, :768], model.decode_packed(latents, features=768), **CLOSE
    )


def test_wrong_widths_are_named(model):
    coords = dense_coords((1, 1, 2, 1))
    with refused(3072, 100):
        model.encode_packed(Packed.cat([(torch.zeros(2, 100), coords)]))
    with refused(48, 32):
        model.decode_packed(Packed.cat([(torch.zeros(2, 32), coords)]))


# Computed once


@pytest.fixture
def calls(monkeypatch):
    """How often rotary tables were made and position tables read."""
    counts = {"rope": 0, "table": 0}

    def counted(name, original):
        def call(*arguments):
            counts[name] += 1
            return original(*arguments)

        return call

    for module in (layout_module, memory_module):
        monkeypatch.setattr(module, "rope_table", counted("rope", module.rope_table))
    monkeypatch.setattr(PositionTable, "forward", counted("table", PositionTable.forward))
    return counts


@torch.no_grad()
def test_what_coordinates_decide_is_computed_once_a_batch(calls):
    model = AToken(replace(PRESETS["tiny"], encoder_depth=5, decoder_depth=5))
    model.encode_packed(Packed.cat(samples(3072)))
    assert calls == {"rope": 1, "table": 1}
    model.decode_packed(Packed.cat(samples(48)))
    assert calls == {"rope": 2, "table": 2}


@torch.no_grad()
def test_equal_lengths_share_one_attention_call(model, monkeypatch):
    import torch.nn.functional as F

    seen = []
    original = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a: seen.append(a[0].shape) or original(*a))
    items = samples(3072)
    model.encode_packed(Packed.cat(items * 3), pool=False)
    lengths = {}
    for _, coords in items:
        for tile in (coords[:, 0] - coords[0, 0]).div(4, rounding_mode="floor").unique():
            length = int(((coords[:, 0] - coords[0, 0]) // 4 == tile).sum())
            lengths[length] = lengths.get(length, 0) + 3
    expected = [(count, 2, length, 32) for length, count in sorted(lengths.items())]
    assert [tuple(shape) for shape in seen] == expected * model.config.encoder_depth


@torch.no_grad()
def test_host_synchronisations_do_not_grow_with_the_batch(model):
    """Every read of a device value by the host is an ``item`` (or a copy); a batch of many samples has as many."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        found = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
                self.found += 1
            return func(*args, **(kwargs or {}))

    def count(copies):
        packed = Packed.cat(samples(3072) * copies)
        with Count() as counter:
            build_layout(packed.coords, 4, 32)
            model.encode_packed(packed)
        return counter.found

    assert count(1) == count(4)


# Attention


def reference(q, k, v, queries, keys):
    outputs, q_at, k_at = [], 0, 0
    for n, m in zip(queries, keys, strict=True):
        a, b, c = q[q_at : q_at + n].double(), k[k_at : k_at + m].double(), v[k_at : k_at + m].double()
        scores = torch.einsum("nhd,mhd->hnm", a, b) / a.shape[-1] ** 0.5
        outputs.append(torch.einsum("hnm,mhd->nhd", scores.softmax(-1), c))
        q_at, k_at = q_at + n, k_at + m
    return torch.cat(outputs)


CASES = [([3, 3, 3, 7], [3, 3, 3, 7]), ([1, 1], [5, 9]), ([70], [130]), ([4, 4], [6, 6])]


@pytest.mark.parametrize(("queries", "keys"), CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize(("amx", "block"), [(True, 300), (False, 2**21), (False, 300)])
@torch.no_grad()
def test_attention_is_its_definition(queries, keys, dtype, tolerance, amx, block, monkeypatch):
    monkeypatch.setattr("atoken.nn.attention.has_amx", lambda: amx)
    monkeypatch.setattr("atoken.nn.attention.BLOCK", block)
    torch.manual_seed(0)
    q = torch.randn(sum(queries), 2, 16).to(dtype)
    k, v = (torch.randn(sum(keys), 2, 16).to(dtype) for _ in range(2))
    out = attend(q, k, v, Spans.of(queries, keys, q.device))
    torch.testing.assert_close(out.double(), reference(q, k, v, queries, keys), atol=tolerance, rtol=tolerance)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize(("queries", "keys"), CASES)
def test_the_variable_length_kernel_agrees_with_its_twin_on_the_cpu(queries, keys):
    torch.manual_seed(0)
    q = torch.randn(sum(queries), 2, 64).bfloat16()
    k, v = (torch.randn(sum(keys), 2, 64).bfloat16() for _ in range(2))
    there = attend(q.cuda(), k.cuda(), v.cuda(), Spans.of(queries, keys, torch.device("cuda")))
    here = attend(q.float(), k.float(), v.float(), Spans.of(queries, keys, q.device))
    torch.testing.assert_close(there.float().cpu(), here, atol=2e-2, rtol=2e-2)


def test_cumulative_lengths_for_the_variable_length_kernel():
    q_cumulative, k_cumulative, longest_q, longest_k = Spans.of([2, 2, 5], [3, 3, 5], torch.device("cpu")).cumulative
    assert (q_cumulative.tolist(), k_cumulative.tolist()) == ([0, 2, 4, 9], [0, 3, 6, 11])
    assert (longest_q, longest_k, q_cumulative.dtype) == (5, 5, torch.int32)


@pytest.mark.parametrize("length", [16, 520])
def test_attention_learns_in_bf16_what_it_does_in_fp32(length):
    inputs = torch.randn(3, 2 * length, 2, 32)
    spans = Spans.of([length] * 2, [length] * 2, inputs.device)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        q, k, v = (x.to(dtype).requires_grad_() for x in inputs)
        found.append(torch.autograd.grad(attend(q, k, v, spans).float().square().sum(), (q, k, v)))
    for exact, rounded in zip(*found, strict=True):
        assert (rounded.float() - exact).norm() < 2e-2 * exact.norm()
