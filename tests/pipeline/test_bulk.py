"""Many sources through one model: order kept, failures isolated, threads apart."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from atoken import PRESETS, AToken, Clip, Tokens
from atoken.pipeline.bulk import in_batches
from refusals import check_names, refused


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return AToken(PRESETS["tiny"]).eval()


def noise(seed, height=32, width=48):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def files(tmp_path):
    """Five pictures, of which the third is damaged."""
    paths = [tmp_path / f"{index}.png" for index in range(5)]
    for index, path in enumerate(paths):
        Image.fromarray(noise(index)).save(path)
    paths[2].write_bytes(paths[2].read_bytes()[:60])
    return paths


def same(tokens, wanted):
    """One batch or another of the network may round differently: by a few ulp of fp32 in two small blocks."""
    torch.testing.assert_close(tokens.latents, wanted.latents, atol=1e-4, rtol=1e-4)
    return tokens.grid == wanted.grid and tokens.size == wanted.size


@pytest.mark.parametrize("read_ahead", [0, 2])
@pytest.mark.parametrize("token_budget", [1, 12, 10_000])
def test_every_source_has_a_result_in_its_place(model, files, read_ahead, token_budget):
    counts = []
    results = list(model.encode_many(files, token_budget=token_budget, read_ahead=read_ahead, progress=counts.append))
    assert [result.key for result in results] == files
    assert counts == [1, 2, 3, 4, 5]
    check_names(str(results[2].error), "2.png")
    assert results[2].value is None
    for index in (0, 1, 3, 4):
        assert results[index].error is None
        assert same(results[index].value, model.encode(noise(index)))


def test_sources_of_all_kinds_have_the_keys_that_they_are_given(model, files):
    clip = Clip(np.stack([noise(7), noise(8)]), fps=8)
    floats = torch.rand(3, 16, 16)
    items = [("a", files[0]), noise(5), Image.fromarray(noise(6)), (7, clip), str(files[1]), floats]
    results = list(model.encode_many(iter(items), kind="discrete", value_range=None))
    assert [result.key for result in results] == ["a", 1, 2, 7, str(files[1]), 5]
    assert [type(result.value) for result in results[:5]] == [Tokens] * 5
    assert results[3].value == model.encode(clip, kind="discrete")
    check_names(str(results[5].error), "value_range")


def test_a_source_at_which_the_model_fails_leaves_the_rest_of_its_batch(model, monkeypatch):
    encode = AToken.encode

    def broken(self, sources, **options):
        if any(source.shape[0] == 40 for source in sources):
            raise RuntimeError("odd")
        return encode(self, sources, **options)

    monkeypatch.setattr(AToken, "encode", broken)
    results = list(model.encode_many([noise(0), noise(1, 40), noise(2)]))
    assert [type(result.error) for result in results] == [type(None), RuntimeError, type(None)]
    assert same(results[2].value, encode(model, noise(2)))


def test_embeddings_come_one_by_one(model, files):
    results = list(model.embed_many(files))
    wanted = model.embed([files[0], files[1], files[3], files[4]])
    found = torch.stack([result.value for result in results if result.error is None])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)  # unit vectors, another batch
    assert results[2].error is not None


def test_closing_ends_the_thread_and_the_items(model):
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield noise(0)
        finally:
            closed.set()

    before = threading.active_count()
    results = model.encode_many(endless(), token_budget=12)
    assert next(results).error is None
    assert threading.active_count() == before + 1
    results.close()
    assert closed.is_set()
    assert threading.active_count() == before


def test_what_the_items_raise_is_raised(model):
    def items():
        yield noise(0)
        raise KeyError("list")

    results = model.encode_many(items())
    assert next(results).error is None
    with pytest.raises(KeyError):
        list(results)


def test_options_that_no_source_could_have_are_refused_at_once(model):
    with refused("kind", "soft"):
        model.encode_many([], kind="soft")
    with refused("spatial_tile", 17):
        model.encode_many([], spatial_tile=17)


@pytest.mark.slow
def test_many_threads_share_one_model():
    """The hash, the quantizer's numbers and the layouts are computed by whoever comes first."""
    pictures = [noise(seed, 32 + 16 * (seed % 3)) for seed in range(12)]
    wanted = AToken(PRESETS["tiny"])
    for _ in range(5):
        model = AToken(PRESETS["tiny"]).eval()
        model.load_state_dict(wanted.state_dict())
        barrier = threading.Barrier(4)

        def work(model=model, barrier=barrier):
            barrier.wait()
            return list(model.encode_many(pictures, kind="discrete", token_budget=1))

        with ThreadPoolExecutor(4) as pool:
            found = [future.result() for future in [pool.submit(work) for _ in range(4)]]
        for results in found:
            assert [result.error for result in results] == [None] * len(pictures)
            for result, picture in zip(results, pictures, strict=True):
                assert result.value == wanted.encode(picture, kind="discrete")


def test_batches_keep_to_the_budget_and_failures_do_not_wait():
    batches = []

    def compute(values):
        batches.append(list(values))
        return [10 * value for value in values]

    def read(key):
        if key < 0:
            raise ValueError(key)
        return key

    keys = [-1, 3, 4, -2, 5, 20, 1, -3]
    items = in_batches(iter(keys), compute, budget=8, read=read, count=lambda value: value)
    assert isinstance(next(items).error, ValueError)
    assert batches == []  # nothing was computed for it
    found = list(items)
    assert [item.key for item in found] == keys[1:]
    assert batches == [[3, 4], [5], [20], [1]]
    assert [item.result for item in found] == [30, 40, None, 50, 200, 10, None]
