"""What was exported comes back as the same samples; InternLumina-U2's own files become tokens."""

import json

import numpy as np
import pytest
import torch

from atoken import PRESETS, AToken, ShardWriter, Tokens, TokenShards
from atoken.core.errors import ReadError
from atoken.export.formats import export
from atoken.export.readers import Maker, read
from refusals import refused
from token_samples import picture, sample, solid, video


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return AToken(PRESETS["tiny"]).eval()


def shards_of(folder, samples):
    folder.mkdir(exist_ok=True)
    with ShardWriter(folder / "a.atoks") as writer:
        for each in samples:
            writer.write(each)
    return TokenShards(folder)


def mixed(kind):
    samples = [
        sample(0, picture(0, kind)),
        sample(1, video(1, kind), label=None),
        sample(2, solid(2, kind), captions=()),
    ]
    return [
        sample(each.label or 0, each.tokens, label=each.label, captions=each.captions, key=f"k/{i}", extras={})
        for i, each in enumerate(samples)
    ]


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
@pytest.mark.parametrize("form", ["numpy", "webdataset", "parquet", "arrow"])
def test_there_and_back(form, kind, tmp_path):
    if form in ("parquet", "arrow"):
        pytest.importorskip("pyarrow")
    samples = mixed(kind)
    export(shards_of(tmp_path / "in", samples), form, tmp_path / "out")
    assert list(read(tmp_path / "out", form, Maker())) == samples


def test_half_latents_stay_half_in_tables(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    samples = [sample(i, picture(i).half(), extras={}) for i in range(3)]
    export(shards_of(tmp_path / "in", samples), "parquet", tmp_path / "out")
    assert list(read(tmp_path / "out" / "tokens.parquet", "parquet", Maker())) == samples
    table = pq.read_table(tmp_path / "out" / "tokens.parquet")
    assert table.column("key").to_pylist() == [each.key for each in samples]
    assert np.array_equal(np.array(table.column("values")[1].as_py(), np.float16), samples[1].tokens.values)


def of_48(number):
    places = torch.randperm(48**3, generator=torch.Generator().manual_seed(number))[:9]
    coords = torch.stack([places * 0, places // 48**2, places // 48 % 48, places % 48], 1).int()
    return solid(number, "discrete", 9, coords=coords, grid=(1, 48, 48, 48))


def test_internlumina_there_and_back(tmp_path):
    tokens = [picture(0, "discrete"), video(1, "discrete"), of_48(2)]
    samples = [sample(i, each, extras={}) for i, each in enumerate(tokens)]
    export(shards_of(tmp_path / "in", samples), "internlumina", tmp_path / "out")
    assert list(read(tmp_path / "out", "internlumina", Maker())) == samples


def test_their_own_token_files(tiny, tmp_path):
    codes = torch.randint(4096, (12, 8), dtype=torch.int32)
    grid = Tokens.from_indices(codes, model=tiny, grid=(3, 4)).coords
    batch = torch.zeros(12, 1, dtype=torch.int32)
    torch.save(
        {"indices": codes, "coords": torch.cat([batch, grid], 1), "image_width": 64, "image_height": 48},
        tmp_path / "a.pkl",
    )
    clip = Tokens.from_indices(codes, model=tiny, grid=(2, 2, 3), fps=8).coords
    order = torch.randperm(12)  # theirs runs down the columns; ours is restored
    torch.save({"indices": codes[order], "coords": torch.cat([batch, clip], 1)[order]}, tmp_path / "b.pt")
    voxels = torch.tensor([[1, 2, 3], [0, 0, 47], [5, 0, 0]], dtype=torch.int32)
    torch.save({"indices": codes[:3].tolist(), "coords": voxels}, tmp_path / "c.pt")
    found = {each.key: each.tokens for each in read(tmp_path, "internlumina", Maker(tiny, 8))}
    assert found["a"] == Tokens.from_indices(codes, model=tiny, grid=(3, 4))
    assert found["b"] == Tokens.from_indices(codes, model=tiny, grid=(2, 2, 3), fps=8)
    assert found["c"].grid == (1, 48, 48, 48)
    assert found["c"].coords[:, 1:].tolist() == [[0, 0, 47], [1, 2, 3], [5, 0, 0]]
    assert torch.equal(found["c"].codes.int(), codes[[1, 0, 2]])


GOOD = {"indices": torch.zeros(2, 8, dtype=torch.int32), "coords": torch.tensor([[0, 0, 0, 0, 0], [0, 0, 0, 1, 0]])}
BAD = [
    ({**GOOD, "indices": torch.full((2, 8), 4096)}, "4095"),
    ({**GOOD, "indices": torch.zeros(2, 7, dtype=torch.int32)}, "[2, 7]"),
    ({**GOOD, "indices": torch.zeros(2, 8)}, "float"),
    ({**GOOD, "coords": GOOD["coords"][:1]}, "coords"),
    ({**GOOD, "coords": torch.tensor([[0, 0, 0, 0, 0], [0, 0, 1, 1, 0]])}, "grid"),
    ({"indices": GOOD["indices"]}, "coords"),
    ([1], "dict"),
]


@pytest.mark.parametrize(("table", "named"), BAD)
def test_token_files_that_are_none(tiny, tmp_path, table, named):
    torch.save(table, tmp_path / "bad.pt")
    with refused(named, "bad.pt", error=ReadError):
        list(read(tmp_path, "internlumina", Maker(tiny)))


def test_what_is_asked_for(tiny, tmp_path):
    torch.save(GOOD, tmp_path / "a.pt")
    with refused("--model"):
        list(read(tmp_path, "internlumina", Maker()))
    clip = {"indices": GOOD["indices"], "coords": torch.tensor([[0, 0, 0, 0, 0], [0, 1, 0, 0, 0]])}
    torch.save(clip, tmp_path / "a.pt")
    with refused("--fps"):
        list(read(tmp_path, "internlumina", Maker(tiny)))
    with refused("jpeg"):
        read(tmp_path, "jpeg", Maker())
    with refused("nowhere", error=FileNotFoundError):
        read(tmp_path / "nowhere", "numpy", Maker())


def test_code_in_a_token_file_is_not_run(tiny, tmp_path):
    class Bad:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({**GOOD, "extra": Bad()}, tmp_path / "bad.pt")
    with refused("bad.pt", error=ReadError):
        list(read(tmp_path, "internlumina", Maker(tiny)))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("form", ["numpy", "webdataset", "parquet"])
def test_damaged_exports(form, tmp_path):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    export(shards_of(tmp_path / "in", [sample(i, extras={}) for i in range(3)]), form, tmp_path / "out")
    victims = {"numpy": "samples.jsonl", "webdataset": "shard-000000.tar", "parquet": "tokens.parquet"}
    path = tmp_path / "out" / victims[form]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ReadError):
        list(read(tmp_path / "out", form, Maker()))


def changed(folder, name, change):
    np.save(folder / f"{name}.npy", change(np.load(folder / f"{name}.npy")))


def index(folder, change):
    path = folder / "samples.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines[1])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


HOSTILE = {
    "floats for coords": lambda folder: changed(folder, "coords", lambda a: a + 0.5),
    "complex values": lambda folder: changed(folder, "values", lambda a: a.astype(np.complex64)),
    "flat values": lambda folder: changed(folder, "values", np.ravel),
    "starts in a matrix": lambda folder: changed(folder, "starts", lambda a: a[None]),
    "starts that go back": lambda folder: changed(folder, "starts", lambda a: a[[0, 2, 1, 3]]),
    "starts below 0": lambda folder: changed(folder, "starts", lambda a: a - [0, 20, 0, 0]),
    "no header": lambda folder: index(folder, lambda line: line.pop("header")),
    "a header that is a list": lambda folder: index(folder, lambda line: line.update(header=[1])),
    "captions that are a text": lambda folder: index(folder, lambda line: line.update(captions="cat")),
    "a label that is a text": lambda folder: index(folder, lambda line: line.update(label="1")),
    "times of a picture": lambda folder: index(folder, lambda line: line.update(times=[{}])),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_arrays_and_facts_that_do_not_fit(name, tmp_path):
    export(shards_of(tmp_path / "in", [sample(i, extras={}) for i in range(3)]), "numpy", tmp_path / "out")
    HOSTILE[name](tmp_path / "out")
    with refused("out", error=ReadError):
        list(read(tmp_path / "out", "numpy", Maker()))


@pytest.mark.parametrize("column", ["values", "coords", "header", "captions", "key"])
def test_tables_of_others(column, tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    export(shards_of(tmp_path / "in", [sample(i, extras={}) for i in range(3)]), "parquet", tmp_path / "out")
    path = tmp_path / "out" / "tokens.parquet"
    table = parquet.read_table(path)
    place = table.column_names.index(column)
    for other in (table.drop_columns(column), table.set_column(place, column, pa.array([1.5, None, 2.0]))):
        parquet.write_table(other, path)
        with refused("tokens.parquet", error=ReadError):
            list(read(path, "parquet", Maker()))
