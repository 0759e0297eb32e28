"""Formats of moments, as MAR, TokenBridge, REPA, SR-DiT and RAE read them."""

import json

import numpy as np
import pytest
import torch

from atoken import ShardWriter, TokenShards
from atoken.export.formats import export
from atoken.tokens.samples import LOGVAR
from refusals import refused
from token_samples import picture, sample

COUNT = 5


def shards_of(folder, samples):
    with ShardWriter(folder / "a.atoks") as writer:
        for each in samples:
            writer.write(each)
    return TokenShards(folder)


def pictures(rows=2):
    made = []
    for number in range(COUNT):
        for copy in ("", "@flip"):
            tokens = picture(number + 100 * bool(copy), rows=rows, columns=rows)
            logvar = torch.randn(len(tokens), 48, generator=torch.Generator().manual_seed(number)).half()
            made.append(sample(number, tokens, key=f"class/{number:03d}{copy}", extras={LOGVAR: logvar}))
    return made


def first(values, tokens):
    """[C, h, w] of [N, C]."""
    _, rows, columns, _ = tokens.grid
    return values.float().numpy().reshape(rows, columns, -1).transpose(2, 0, 1)


@pytest.mark.parametrize("name", ["mar", "tokenbridge"])
def test_mar_reads_an_image_folder_of_moments(name, tmp_path):
    samples = pictures()
    assert export(shards_of(tmp_path, samples), name, tmp_path / "out") == COUNT
    folders = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    found = sorted((tmp_path / "out").rglob("*.npz"))
    assert len(found) == COUNT
    lines = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        path = tmp_path / "out" / line["file"]
        assert folders.index(path.parent.name) == samples[2 * number].label  # as ImageFolder numbers classes
        read = np.load(path)
        for key, each in (("moments", samples[2 * number]), ("moments_flip", samples[2 * number + 1])):
            assert (read[key].shape, read[key].dtype) == ((96, 2, 2), np.float32)
            assert np.array_equal(read[key][:48], first(each.tokens.values, each.tokens))
            assert np.array_equal(read[key][48:], first(each.extras[LOGVAR], each.tokens))
        assert line["key"] == samples[2 * number].key


@pytest.mark.parametrize("name", ["repa", "sra"])
def test_repa_reads_means_and_deviations_by_number(name, tmp_path):
    samples = pictures()
    assert export(shards_of(tmp_path, samples), name, tmp_path / "out") == COUNT
    labels = json.loads((tmp_path / "out" / "vae-sd" / "dataset.json").read_text())["labels"]
    names = sorted(str(path.relative_to(tmp_path / "out" / "vae-sd")) for path in (tmp_path / "out").rglob("*.npy"))
    assert [each for each, _ in labels] == names == [f"00000/img-mean-std-{i:08d}.npy" for i in range(COUNT)]
    for (name, label), each in zip(labels, samples[::2], strict=True):
        read = np.load(tmp_path / "out" / "vae-sd" / name)
        assert (read.shape, read.dtype, label) == ((96, 2, 2), np.float32, each.label)
        assert np.array_equal(read[:48], first(each.tokens.values, each.tokens))
        deviation = np.exp(0.5 * first(each.extras[LOGVAR], each.tokens))
        assert np.allclose(read[48:], deviation, rtol=1e-6)  # one exp in fp32


def test_sr_dit_reads_latents_by_number(tmp_path):
    samples = [sample(i, picture(i, rows=2, columns=2)) for i in range(COUNT)]
    assert export(shards_of(tmp_path, samples), "sr-dit", tmp_path / "out") == COUNT
    labels = json.loads((tmp_path / "out" / "vae-in" / "dataset.json").read_text())["labels"]
    for (name, label), each in zip(labels, samples, strict=True):
        read = np.load(tmp_path / "out" / "vae-in" / name)
        assert np.array_equal(read, first(each.tokens.values, each.tokens))
        assert label == each.label


def test_rae_reads_statistics_of_each_place(tmp_path):
    samples = pictures()
    assert export(shards_of(tmp_path, samples), "rae", tmp_path / "out") == COUNT
    stat = torch.load(tmp_path / "out" / "stat.pt", weights_only=True)
    whole = np.stack([first(each.tokens.values, each.tokens) for each in samples[::2]])
    assert stat["mean"].shape == stat["var"].shape == (48, 2, 2)
    assert np.allclose(stat["mean"], whole.mean(0), atol=1e-6)  # fp64 sums against fp32
    assert np.allclose(stat["var"], whole.var(0), atol=1e-5)


PAIR = [sample(0, picture(i, rows=2, columns=2), key=f"a{copy}") for i, copy in enumerate(("", "@flip"))]
BAD = [
    ("mar", PAIR, "--moments"),
    ("mar", pictures()[::2], "--flip"),
    ("mar", [each for each in pictures() if each.label != 1], "1"),
    ("repa", [*pictures()[:2], sample(7, picture(7, rows=3, columns=3), extras={LOGVAR: torch.ones(9, 48)})], "--size"),
    ("repa", [sample(0, picture(0, "discrete", 2, 2))], "discrete"),
    ("sr-dit", [sample(0, picture(0, rows=2, columns=2), label=None)], "label"),
    ("rae", [sample(0, picture(0, rows=2, columns=2))], "two"),
]


@pytest.mark.parametrize(("name", "samples", "named"), BAD, ids=[f"{i} {bad[0]}" for i, bad in enumerate(BAD)])
def test_what_these_formats_do_not_hold(name, samples, named, tmp_path):
    shards = shards_of(tmp_path, samples)
    with refused(named):
        export(shards, name, tmp_path / "out")
    assert not (tmp_path / "out").exists()
