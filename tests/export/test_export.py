"""Exported tokens, read back as their consumers read them."""

import csv
import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from atoken import ShardWriter, TokenShards
from atoken.export import latents
from atoken.export.formats import FORMATS, REFUSED, export
from refusals import refused
from token_samples import picture, sample, solid, video

COUNT = 5


def shards_of(folder, samples):
    for place in range(0, len(samples), 4):
        with ShardWriter(folder / f"{place}.atoks") as writer:
            for each in samples[place : place + 4]:
                writer.write(each)
    return TokenShards(folder)


def pictures(kind="continuous", rows=2, columns=2, **changes):
    """Pictures and their mirrored copies."""
    made = []
    for number in range(COUNT):
        for copy in ("", "@flip"):
            tokens = picture(number + 100 * bool(copy), kind, rows, columns, **changes)
            made.append(sample(number, tokens, key=f"class/{number:03d}{copy}"))
    return made


def channels_first(tokens):
    """[C, H, W]: what image trainers call latents."""
    _, rows, columns, _ = tokens.grid
    return tokens.values.numpy().reshape(rows, columns, -1).transpose(2, 0, 1)


@pytest.mark.parametrize("name", ["lightningdit", "gae"])
def test_lightningdit_reads_slices_and_statistics(name, tmp_path, monkeypatch):
    monkeypatch.setattr(latents.lightningdit, "__defaults__", (2,))
    samples = pictures()
    assert export(shards_of(tmp_path, samples), name, tmp_path / "out") == COUNT
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    assert [path.name for path in files] == [f"latents_rank00_shard{number:03d}.safetensors" for number in range(3)]
    read = []
    for path in files:
        with safe_open(path, "pt", "cpu") as file:
            assert file.metadata().keys() == {"total_size", "dtype", "device"}
            assert file.get_slice("labels").get_shape() == [int(file.metadata()["total_size"])]
            for place in range(file.get_slice("labels").get_shape()[0]):
                parts = [file.get_slice(key)[place : place + 1] for key in ("latents", "latents_flip", "labels")]
                assert [part.dtype for part in parts] == [torch.float32, torch.float32, torch.int64]
                read.append([part[0].numpy() for part in parts])
    for number, (plain, flip, label) in enumerate(read):
        assert np.array_equal(plain, channels_first(samples[2 * number].tokens))
        assert np.array_equal(flip, channels_first(samples[2 * number + 1].tokens))
        assert label == samples[2 * number].label
    stats = torch.load(tmp_path / "out" / "latents_stats.pt", weights_only=True)
    whole = torch.from_numpy(np.stack([plain for plain, _, _ in read]))
    for name, expected in (("mean", whole.mean((0, 2, 3), keepdim=True)), ("std", whole.std((0, 2, 3), keepdim=True))):
        # fp32 sums of 20 numbers about 1 in their order, against fp64: a few units of 6e-8
        assert torch.allclose(stats[name], expected, atol=1e-6)


def test_jlt_is_normalised(tmp_path):
    samples = pictures()
    export(shards_of(tmp_path, samples), "jlt", tmp_path / "out")
    index = json.loads((tmp_path / "out" / "shard_index.json").read_text())
    assert index == [["latents_rank00_shard000.safetensors", COUNT]]
    with safe_open(tmp_path / "out" / index[0][0], "pt") as file:
        plain, flip, labels = (file.get_tensor(name) for name in ("latents", "latents_flip", "labels"))
    assert (plain.dtype, flip.dtype, labels.dtype) == (torch.float16, torch.float16, torch.int32)
    stats = torch.load(tmp_path / "out" / "latents_stats.pt", weights_only=True)
    for read, copy in ((plain, 0), (flip, 1)):
        back = read.float() * stats["std"] + stats["mean"]
        expected = np.stack([channels_first(each.tokens) for each in samples[copy::2]])
        assert np.allclose(back, expected, atol=4e-3)  # float16 of up to 4 deviations: half a unit is 1e-3, times std


def test_llamagen_and_unitok_read_codes_by_number(tmp_path):
    samples = pictures("discrete")
    assert export(shards_of(tmp_path, samples), "unitok", tmp_path / "out") == COUNT
    for number in range(COUNT):
        codes = np.load(tmp_path / "out" / "imagenet32_codes" / f"{number}.npy")
        label = np.load(tmp_path / "out" / "imagenet32_labels" / f"{number}.npy")
        assert (codes.shape, codes.dtype) == ((1, 2, 8, 4), np.int64)
        for copy in range(2):
            tokens = samples[2 * number + copy].tokens
            assert np.array_equal(codes[0, copy], tokens.codes.numpy().T)
        assert label.tolist() == [samples[2 * number].label]


def one_code(number):
    codes = torch.randint(4096, (4, 1), generator=torch.Generator().manual_seed(number)).to(torch.uint16)
    return picture(number, "discrete", 2, 2, values=codes, fsq=((4,) * 6,))


def test_llamagen_and_rar_with_one_code(tmp_path):
    samples = [sample(number, one_code(number)) for number in range(COUNT)]
    shards = shards_of(tmp_path, samples)
    export(shards, "llamagen", tmp_path / "llamagen")
    assert np.load(tmp_path / "llamagen" / "imagenet32_codes" / "0.npy").shape == (1, 1, 4)
    export(shards, "rar", tmp_path / "rar")
    lines = [json.loads(line) for line in (tmp_path / "rar" / "tokens.jsonl").read_text().splitlines()]
    assert lines == [{"class_id": each.label, "tokens": each.tokens.codes.flatten().tolist()} for each in samples]


def sample_of_48(number):
    places = torch.randperm(48**3, generator=torch.Generator().manual_seed(number))[:9]
    coords = torch.stack([places * 0, places // 48**2, places // 48 % 48, places % 48], 1).int()
    return sample(number, solid(number, "discrete", 9, coords=coords, grid=(1, 48, 48, 48)))


def test_internlumina_takes_pictures_clips_and_solids(tmp_path):
    samples = [sample(0, picture(0, "discrete")), sample(1, video(1, "discrete")), sample_of_48(2)]
    export(shards_of(tmp_path, samples), "internlumina", tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == [each.key for each in samples]
    for line, each in zip(lines, samples, strict=True):
        read = torch.load(tmp_path / "out" / line["file"], weights_only=True)
        indices, coords = read["indices"], read["coords"]
        assert (indices.dtype, coords.dtype) == (torch.int32, torch.int32)
        assert 1 <= len(indices) == len(coords)
        assert (indices.shape[1], coords.shape[1]) == (8, 5)
        assert 0 <= int(indices.min()) <= int(indices.max()) < 4096
        assert int(coords.min()) >= 0
        assert np.array_equal(indices, each.tokens.codes.numpy())
        assert torch.equal(coords[:, 2:], each.tokens.coords[:, 1:])
        if line["modality"] == "image":  # row-major, and nothing is sorted
            rows, columns = int(coords[:, 2].max()) + 1, int(coords[:, 3].max()) + 1
            assert (coords[:, 2] * columns + coords[:, 3]).tolist() == list(range(rows * columns))
            assert (read["image_width"], read["image_height"]) == (48, 32)
        assert coords[:, 1].unique().tolist() == ([1] if line["modality"] == "3d" else list(range(each.tokens.grid[0])))


def test_trellis(tmp_path):
    samples = [sample(number, solid(number)) for number in range(COUNT)]
    export(shards_of(tmp_path, samples), "trellis", tmp_path / "out")
    with (tmp_path / "out" / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file_identifier"] for row in rows] == [each.key for each in samples]
    for row, each in zip(rows, samples, strict=True):
        assert row["sha256"] == hashlib.sha256(each.key.encode()).hexdigest()
        read = np.load(tmp_path / "out" / "latents" / "atoken" / f"{row['sha256']}.npz")
        assert (read["coords"].dtype, read["feats"].dtype) == (np.uint8, np.float32)
        assert np.array_equal(read["coords"], each.tokens.coords[:, 1:])
        assert np.array_equal(read["feats"], each.tokens.values)
        assert int(row["num_voxels"]) == len(each.tokens)


def test_webdataset_decodes_it(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    samples = [sample(0), sample(1, video(1), label=None), sample(2, solid(2), captions=()), *map(sample, range(3, 6))]
    export(shards_of(tmp_path, samples), "webdataset", tmp_path / "out")
    files = [str(path) for path in sorted((tmp_path / "out").iterdir())]
    read = list(webdataset.WebDataset(files, shardshuffle=False).decode())
    assert [each["__key__"] for each in read] == [each.key for each in samples]
    for found, each in zip(read, samples, strict=True):
        assert np.array_equal(found["npy"], each.tokens.values)
        assert np.array_equal(found["coords.npy"], each.tokens.coords)
        assert found.get("cls") == each.label
        assert found.get("txt") == (each.captions[0] if each.captions else None)
        assert found["json"]["header"]["modality"] == each.tokens.modality


def test_numpy(tmp_path):
    samples = [sample(0), sample(1, video(1), label=None), sample(2, solid(2))]
    export(shards_of(tmp_path, samples), "numpy", tmp_path / "out")
    arrays = {name: np.load(tmp_path / "out" / f"{name}.npy", mmap_mode="r") for name in ("values", "coords", "starts")}
    lines = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines()]
    assert np.load(tmp_path / "out" / "labels.npy").tolist() == [0, -1, 2]
    for number, each in enumerate(samples):
        part = slice(*arrays["starts"][number : number + 2])
        assert np.array_equal(arrays["values"][part], each.tokens.values)
        assert np.array_equal(arrays["coords"][part], each.tokens.coords)
        assert (lines[number]["key"], tuple(lines[number]["captions"])) == (each.key, each.captions)


DISCRETE = [sample(0, picture(0, "discrete", 2, 2))]
BAD = [
    ("lightningdit", [sample(0, picture(0, rows=2, columns=2))], "mirrored"),
    (
        "lightningdit",
        [*pictures(), *(sample(9, picture(9, "continuous", 3, 3), key=f"z{c}") for c in ("", "@flip"))],
        "z",
    ),
    ("lightningdit", pictures("discrete"), "discrete"),
    ("lightningdit", pictures(rows=1, columns=2), "--size"),
    ("jlt", pictures(values=torch.ones(4, 48)), "constant"),
    ("llamagen", pictures(), "continuous"),
    ("llamagen", [*pictures("discrete"), sample(9, picture(9, "discrete", 2, 2))], "class/009"),
    ("llamagen", [*DISCRETE, sample(1, picture(1, "discrete", 3, 3))], "class/001"),
    ("llamagen", [sample(0, picture(0, "discrete", 2, 2), label=None)], "label"),
    ("llamagen", [sample(0, picture(0, "discrete", 2, 2), key="a@flip")], "mirrored"),
    ("rar", DISCRETE, "llamagen"),
    ("internlumina", [sample(0)], "continuous"),
    ("internlumina", [sample(0, solid(0, "discrete"))], "48"),
    ("internlumina", [sample(0, one_code(0))], "eight"),
    ("trellis", [sample(0)], "image"),
    ("numpy", [sample(7), *DISCRETE], "class/000"),
    ("webdataset", [sample(0, key="a.b"), sample(1, key="a_b")], "a_b"),
    ("jpeg", [sample(0)], "jpeg"),
    *((name, [sample(0)], name) for name in REFUSED),
]


@pytest.mark.parametrize(("name", "samples", "named"), BAD, ids=[f"{i} {bad[0]}" for i, bad in enumerate(BAD)])
def test_what_a_format_does_not_hold(name, samples, named, tmp_path):
    shards = shards_of(tmp_path, samples)
    before = sorted(tmp_path.iterdir())
    with refused(named):
        export(shards, name, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_is_there(tmp_path):
    shards = shards_of(tmp_path, [sample(0)])
    (tmp_path / "out").mkdir()
    for name in FORMATS:
        with refused("out", "new folder", error=FileExistsError):
            export(shards, name, tmp_path / "out")
