"""The packed batch, one source's tokens, and the token file."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from atoken import PRESETS, AToken, Packed, Tokens
from atoken.atok import from_bytes, pack_12bit, to_bytes, unpack_12bit
from atoken.tokens import dense_coords

GENERATOR = torch.Generator().manual_seed(0)
GRID = (1, 2, 3, 1)


def tokens(kind="continuous", dtype=torch.float32, **changes):
    count = len(changes.get("coords", dense_coords(GRID)))
    values = torch.randn(count, 48, generator=GENERATOR).to(dtype)
    if kind == "discrete":
        values = torch.randint(4096, (count, 8), generator=GENERATOR).to(torch.uint16)
    made = Tokens(kind, values, dense_coords(GRID), GRID, (20, 33), (0, 0, 20, 33), "test", "0123abcd" * 8)
    return replace(made, **changes)


def assert_same(a: Tokens, b: Tokens):
    for name, value in vars(a).items():
        other = getattr(b, name)
        if isinstance(value, torch.Tensor):
            assert value.dtype == other.dtype, name
            assert torch.equal(value, other), name
        else:
            assert value == other, name


# The packed batch


def test_packed_joins_and_counts():
    parts = [(torch.zeros(6, 4), dense_coords(GRID)), (torch.ones(2, 4), dense_coords((1, 1, 2, 1)))]
    packed = Packed.cat(parts)
    assert packed.lengths == [6, 2]
    assert packed.coords[:, 0].tolist() == [0] * 6 + [1] * 2
    assert torch.equal(packed.coords[6:, 1:], parts[1][1])
    assert torch.equal(packed.feats, torch.cat([parts[0][0], parts[1][0]]))


@pytest.mark.parametrize(
    ("feats", "coords", "words"),
    [
        (torch.zeros(2, 3, 4), torch.zeros(2, 5).int(), "feats [N, C]"),
        (torch.zeros(2, 4), torch.zeros(2, 4).int(), "coords [N, 5]"),
        (torch.zeros(2, 4), torch.zeros(3, 5).int(), "not [2, 4] and [3, 5]"),
        (torch.zeros(2, 4), torch.zeros(2, 5), "integer coords"),
        (torch.zeros(2, 4).int(), torch.zeros(2, 5).int(), "float feats"),
        (torch.zeros(0, 4), torch.zeros(0, 5).int(), "empty"),
        (torch.zeros(2, 4), torch.tensor([[0, 0, 0, 0, 0], [0, 0, -1, 0, 0]]), "negative"),
        (torch.zeros(2, 4), torch.tensor([[0, 0, 0, 0, 0], [2, 0, 0, 0, 0]]), "numbered from 0"),
        (torch.zeros(2, 4), torch.tensor([[1, 0, 0, 0, 0], [1, 0, 0, 0, 0]]), "numbered from 0"),
        (torch.zeros(2, 4), torch.tensor([[1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]), "contiguous"),
    ],
)
def test_packed_refuses_what_does_not_fit(feats, coords, words):
    with pytest.raises(ValueError, match=r"packed|coords") as caught:
        Packed(feats, coords)
    assert words in str(caught.value)


def test_dense_coords_are_row_major():
    assert dense_coords((1, 2, 2, 1)).tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 1, 1, 0]]
    assert dense_coords((2, 3, 4, 5)).shape == (120, 4)


def test_latents_and_codes():
    continuous, discrete = tokens(), tokens("discrete")
    assert continuous.latents is continuous.values
    assert (discrete.latents.dtype, discrete.latents.shape) == (torch.float32, (6, 48))
    assert discrete.latents.abs().max() <= 1
    with pytest.raises(ValueError, match="no codes"):
        _ = continuous.codes


# Twelve bits


def test_twelve_bits_are_exact_over_every_code_in_both_places():
    codes = torch.arange(4096).to(torch.int32)
    pairs = torch.stack([codes, codes.flip(0)], 1).to(torch.uint16)
    packed = pack_12bit(pairs)
    assert (packed.dtype, packed.shape) == (torch.uint8, (4096, 3))
    assert torch.equal(unpack_12bit(packed).int(), pairs.int())
    wide = torch.randint(4096, (1000, 8), generator=GENERATOR).to(torch.uint16)
    assert pack_12bit(wide).shape == (1000, 12)
    assert torch.equal(unpack_12bit(pack_12bit(wide)).int(), wide.int())


def test_the_layout_of_twelve_bits_is_the_documented_one():
    a, b = 0xABC, 0x123
    packed = pack_12bit(torch.tensor([[a, b]], dtype=torch.int32).to(torch.uint16))
    assert packed[0].tolist() == [a & 255, a >> 8 | (b & 15) << 4, b >> 4]


# The file


@pytest.mark.parametrize(
    "made",
    [
        tokens(),
        tokens(dtype=torch.bfloat16),
        tokens(dtype=torch.float16),
        tokens("discrete"),
        tokens("discrete", fsq=((64, 64), (65536,), (4,)), values=torch.full((6, 3), 3).to(torch.uint16)),
        tokens(coords=dense_coords((1, 3, 3, 1))[::2].contiguous(), grid=(1, 3, 3, 1)),
        tokens(modality="video", times=torch.tensor([0.0, 1 / 3, 0.7], dtype=torch.float64)),
        tokens(modality="3d", transform=tuple(tuple(float(4 * i + j) for j in range(4)) for i in range(4))),
    ],
)
def test_a_file_gives_back_what_was_saved(made, tmp_path):
    made.save(tmp_path / "a.atok")
    assert_same(made, Tokens.load(tmp_path / "a.atok"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.atok"]


def test_any_safetensors_reader_opens_it(tmp_path):
    made = tokens("discrete")
    made.save(tmp_path / "a.atok")
    with safetensors.safe_open(tmp_path / "a.atok", "np") as file:
        header = file.metadata()
        assert np.array_equal(file.get_tensor("codes"), pack_12bit(made.values).numpy())
        assert list(file.keys()) == ["codes"]  # the coordinates are the full grid
    assert (header["format"], header["version"], json.loads(header["grid"])) == ("atok", "1", [1, 2, 3, 1])


def test_discrete_tokens_cost_twelve_bytes_each():
    def size(rows):
        grid = (1, rows, 100, 1)
        codes = torch.zeros(rows * 100, 8, dtype=torch.uint16)
        return len(to_bytes(tokens("discrete", values=codes, coords=dense_coords(grid), grid=grid)))

    assert size(500) - size(400) == 100 * 100 * 12


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_every_flipped_bit_is_noticed(kind):
    small = tokens(kind, grid=(1, 1, 1, 1), coords=dense_coords((1, 1, 1, 1)), values=tokens(kind).values[:1])
    data = to_bytes(small)
    for position in range(8 * len(data)):
        bad = bytearray(data)
        bad[position // 8] ^= 1 << position % 8
        with pytest.raises(ValueError):  # noqa: PT011 (the sentence depends on where the bit lies)
            from_bytes(bytes(bad))


def test_every_truncation_is_noticed():
    data = to_bytes(tokens("discrete"))
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r"truncated|damaged|not a token file|empty"):
            from_bytes(data[:length])
    with pytest.raises(ValueError, match="truncated or damaged"):
        from_bytes(data + b"\0")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (b"words", "not a token file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "not a token file"),
        (safetensors.torch.save({"latents": torch.zeros(1)}), "a safetensors file without the atok header"),
        (safetensors.torch.save({"latents": torch.zeros(1)}, {"format": "pt"}), "without the atok header"),
    ],
)
def test_files_that_are_not_ours(tmp_path, data, words):
    path = tmp_path / "a.atok"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.atok: ") as caught:
        Tokens.load(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_newer_version_says_so_before_anything_else():
    data = to_bytes(tokens()).replace(b'"version":"1"', b'"version":"2"')
    with pytest.raises(ValueError, match="newer version of the format"):
        from_bytes(data)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        Tokens.load(tmp_path / "none.atok")
    with pytest.raises(OSError, match="directory"):
        Tokens.load(tmp_path)


def test_tokens_of_another_model_are_refused():
    torch.manual_seed(0)
    ours, theirs = AToken(PRESETS["tiny"]), AToken(PRESETS["tiny"])
    made = from_bytes(to_bytes(theirs.encode(np.zeros((20, 33, 3), np.uint8))))
    assert theirs.decode(made).shape == (20, 33, 3)
    with pytest.raises(ValueError, match="made by 'tiny' with weights") as caught:
        ours.decode(made)
    assert theirs.weights_hash[:12] in str(caught.value)
    assert ours.weights_hash[:12] in str(caught.value)


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.atok"
    old = tokens()
    old.save(path)
    before = path.read_bytes()

    def full(self, data):
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as caught:
        tokens("discrete").save(path)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
