"""Batches of tokens out of shards: every sample once an epoch, in an order that no workers and no kill changes."""

import json
from itertools import islice

import pytest
import torch
from torch.utils.data import DataLoader

from atoken import ShardWriter, TokenShard, TokenShards
from atoken.core.errors import ReadError
from atoken.data.tokens import TokenBatches, pack_tokens
from refusals import refused
from token_samples import picture, sample, solid, video

BUDGET = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """40 samples of 2 to 18 tokens in three shards."""
    folder = tmp_path_factory.mktemp("shards")
    for number in range(3):
        with ShardWriter(folder / f"{number}.atoks") as writer:
            for i in range(number * 20, min(number * 20 + 20, 40) if number < 2 else 44):
                writer.write(sample(i, picture(i, rows=1 + i % 3, columns=2 + i % 5)))
    return folder


def keys(batches):
    return [[each.key for each in batch.samples] for batch in batches]


def stream(folder, **options):
    return TokenBatches(TokenShards(folder), BUDGET, epochs=1, **options)


def test_every_sample_is_in_one_batch_within_the_budget(folder):
    batches = list(stream(folder))
    assert sorted(key for batch in keys(batches) for key in batch) == [f"class/{i:03d}" for i in range(44)]
    assert all(len(batch.values) <= BUDGET for batch in batches)
    assert max(len(batch.samples) for batch in stream(folder, samples=2)) == 2
    assert keys(batches) != keys(stream(folder, seed=1))
    assert [key for batch in keys(stream(folder, shuffle=False)) for key in batch][:3] == [
        "class/000",
        "class/001",
        "class/002",
    ]


def test_epochs_have_orders_of_their_own(folder):
    two = keys(TokenBatches(TokenShards(folder), BUDGET, epochs=2))
    first = keys(stream(folder))
    assert two[: len(first)] == first
    assert two[len(first) :] != first


def test_a_batch_is_what_its_samples_are(folder):
    batch = next(iter(stream(folder)))
    starts = [0, *torch.tensor(batch.lengths).cumsum(0).tolist()]
    for number, each in enumerate(batch.samples):
        part = slice(starts[number], starts[number + 1])
        assert torch.equal(batch.values[part], each.tokens.values)
        assert torch.equal(batch.coords[part, 1:], each.tokens.coords)
        assert batch.coords[part, 0].unique().tolist() == [number]
        assert batch.labels[number] == each.label
        assert batch.captions[number] == each.captions


def test_ranks_share_an_epoch(folder):
    alone = keys(stream(folder))
    parts = [keys(stream(folder, rank=rank, world=3)) for rank in range(3)]
    assert [batch for together in zip(*parts, strict=True) for batch in together] == alone[: len(alone) // 3 * 3]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_the_order(workers, folder):
    batches = TokenBatches(TokenShards(folder), BUDGET, epochs=2, rank=1, world=2)
    loader = DataLoader(batches, batch_size=None, num_workers=workers, multiprocessing_context="spawn")
    assert keys(loader) == keys(batches)


@pytest.mark.parametrize("world", [1, 2])
def test_a_cursor_goes_on_where_the_stream_stood(world, folder):
    whole = list(TokenBatches(TokenShards(folder), BUDGET, epochs=3))
    for used in (1, 5, len(whole) // 3 + 2):
        cursor = json.loads(json.dumps(whole[used - 1].cursor))
        ranks = [
            TokenBatches(TokenShards(folder), BUDGET, rank=rank, world=world, cursor=cursor) for rank in range(world)
        ]
        first = keys(next(iter(each)) for each in ranks)
        assert first == keys(whole[used : used + world])


def test_a_stream_without_an_end(folder):
    few = list(islice(TokenBatches(TokenShards(folder), BUDGET), 100))
    assert few[-1].cursor["epoch"] > 2


def test_a_cursor_of_another_stream(folder):
    cursor = next(iter(stream(folder))).cursor
    with refused("seed"):
        stream(folder, seed=1, cursor=cursor)
    with refused("batch", "-1"):
        stream(folder, cursor={**cursor, "batch": -1})


def test_what_cannot_be(folder):
    with refused("tokens", "9", "class/0"):
        TokenBatches(TokenShards(folder), 9)
    with refused("ranks", "100"):
        TokenBatches(TokenShards(folder), BUDGET, world=100)
    with refused("rank 2"):
        TokenBatches(TokenShards(folder), BUDGET, rank=2, world=2)


def test_codes_videos_and_solids(tmp_path):
    samples = [sample(0, picture(0, "discrete")), sample(1, video(1, "discrete")), sample(2, solid(2, "discrete"))]
    batch = pack_tokens([*samples[:2], sample(2, samples[2].tokens, label=None)])
    assert batch.values.dtype == torch.uint16
    assert torch.equal(batch.values[6:18], samples[1].tokens.codes)
    assert batch.labels.tolist() == [0, 1, -1]
    with refused("class/000", "class/005"):
        pack_tokens([samples[0], sample(5)])


def damage(path, key):
    """Flip a bit in the middle of a sample."""
    shard = TokenShard(path)
    start, end = shard._places[shard.keys.index(key)]
    data = bytearray(path.read_bytes())
    data[shard._start + (start + end) // 2] ^= 1
    path.write_bytes(data)


def test_damaged_samples_are_left_out_named_and_counted(tmp_path):
    samples = [sample(i, picture(i, rows=1, columns=2)) for i in range(6)]
    with ShardWriter(tmp_path / "a.atoks") as writer:
        for each in samples:
            writer.write(each)
    whole = [key for batch in keys(stream(tmp_path, samples=3)) for key in batch]
    for key in ("class/001", "class/004"):
        damage(tmp_path / "a.atoks", key)
    with pytest.warns(UserWarning, match=r"class/00[14]") as warned:
        batches = list(stream(tmp_path, samples=3))
    assert sorted(str(each.message).count("class/001") for each in warned) == [0, 1]
    left = [key for batch in keys(batches) for key in batch]
    assert left == [key for key in whole if key not in ("class/001", "class/004")]
    assert sum(batch.damaged for batch in batches) == 2
    assert [batch.cursor for batch in batches] == [{**batches[0].cursor, "batch": 1}, {**batches[0].cursor, "batch": 2}]
    with pytest.raises(ReadError, match=r"class/00[14]"):
        list(stream(tmp_path, samples=1))


def test_pinned_batches(folder, monkeypatch):
    pinned = []

    def pin(tensor):
        pinned.append(tensor)
        return tensor.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    batch = next(iter(stream(folder)))
    for copy in (batch.pinned(), batch.pin_memory()):
        assert copy.values is not batch.values
        assert torch.equal(copy.values, batch.values)
        assert torch.equal(copy.coords, batch.coords)
        assert (copy.samples, copy.cursor) == (batch.samples, batch.cursor)
    assert [tensor is batch.values for tensor in pinned] == [True, False] * 2
