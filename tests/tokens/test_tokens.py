"""The packed batch, one source's tokens, and the token file."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from atoken import PRESETS, AToken, Packed, TokenFile, Tokens
from atoken.core.errors import ReadError
from atoken.nn.packed import dense_coords
from atoken.tokens.file import from_bytes, pack_12bit, sealed, stored_values, to_bytes, unpack_12bit, values_name
from atoken.tokens.header import VERSION
from refusals import refused

GENERATOR = torch.Generator().manual_seed(0)
GRID = (1, 2, 3, 1)


def tokens(kind="continuous", dtype=torch.float32, **changes):
    count = len(changes.get("coords", dense_coords(GRID)))
    values = torch.randn(count, 48, generator=GENERATOR).to(dtype)
    if kind == "discrete":
        values = torch.randint(4096, (count, 8), generator=GENERATOR).to(torch.uint16)
    facts = {"grid": GRID, "size": (20, 33), "box": (0, 0, 20, 33), "model": "test", "weights": "0123abcd" * 8}
    facts |= {"kind": kind, "values": values, "coords": dense_coords(GRID)}
    return Tokens(**(facts | changes))


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
    with refused(words):
        Packed(feats, coords)


def two_pictures() -> Packed:
    grids = GRID, (2, 1, 2, 1)
    return Packed.cat([(torch.randn(len(dense_coords(g)), 768, generator=GENERATOR), dense_coords(g)) for g in grids])


def test_other_numbers_for_the_same_tokens():
    packed = two_pictures()
    layout, feats = packed.layout(4, 16), torch.ones(10, 3)
    other = packed.with_feats(feats)
    assert other.feats is feats
    assert other.coords is packed.coords
    assert other.layout(4, 16) is layout
    assert other.layout(1, 16) is packed.layout(1, 16) is not layout
    assert (other.lengths, other.extents) == ([6, 4], [(2, 3), (1, 2)])
    for wrong in (torch.ones(9, 3), torch.ones(10)):
        with refused("10 tokens", list(wrong.shape)):
            packed.with_feats(wrong)


def test_what_is_known_of_tokens_goes_to_another_device_but_for_what_lies_on_this_one():
    packed = two_pictures()
    assert packed.to("cpu") is packed
    packed.layout(4, 16)
    assert (packed.lengths, packed.extents) == ([6, 4], [(2, 3), (1, 2)])
    there = packed.with_feats(packed.feats).to("meta")
    assert there.feats.is_meta
    assert there.coords.is_meta
    assert (there.lengths, there.extents) == ([6, 4], [(2, 3), (1, 2)])
    assert not there._layouts


def test_a_pass_without_gradients_leaves_nothing_that_forbids_them():
    model, packed = AToken(replace(PRESETS["tiny"], kinds=("discrete",))), two_pictures()

    def there_and_back():
        return model.decode_packed(packed.with_feats(model.fsq(model.encode_packed(packed).posterior.mode())))

    with torch.inference_mode():
        there_and_back()
        assert not any(part.is_inference() for part in model.fsq._on(torch.device("meta")))
    there_and_back().sum().backward()
    assert model.encoder.input_layer.weight.grad.abs().max() > 0


def test_dense_coords_are_row_major():
    assert dense_coords((1, 2, 2, 1)).tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 1, 1, 0]]
    assert dense_coords((2, 3, 4, 5)).shape == (120, 4)


def test_latents_and_codes():
    continuous, discrete = tokens(), tokens("discrete")
    assert continuous.latents is continuous.values
    assert (discrete.latents.dtype, discrete.latents.shape) == (torch.float32, (6, 48))
    assert discrete.latents.abs().max() <= 1
    with refused("continuous"):
        _ = continuous.codes


def test_half_of_tokens():
    made = tokens()
    half = made.half()
    assert half.values.dtype == torch.float16
    assert replace(half, values=made.values) == made
    assert torch.equal(half.values, made.values.half())
    codes = tokens("discrete")
    assert codes.half() is codes
    with refused("7e+04", "float16"):
        tokens(values=torch.full((6, 48), -7e4)).half()


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
        tokens(modality="3d", coords=dense_coords((1, 3, 3, 3))[::2].contiguous(), grid=(1, 3, 3, 3)),
        tokens(modality="video", times=torch.tensor([0.0, 1 / 3, 0.7], dtype=torch.float64)),
        tokens(modality="3d", transform=tuple(tuple(float(4 * i + j) for j in range(4)) for i in range(4))),
    ],
)
def test_a_file_gives_back_what_was_saved(made, tmp_path):
    made.save(tmp_path / "a.atok")
    assert Tokens.load(tmp_path / "a.atok") == made
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
    one = (1, 1, 1, 1)
    small = tokens(
        kind, grid=one, coords=dense_coords(one), values=tokens(kind).values[:1], size=(9, 9), box=(0, 0, 9, 9)
    )
    data = to_bytes(small)
    for position in range(8 * len(data)):
        bad = bytearray(data)
        bad[position // 8] ^= 1 << position % 8
        with refused():
            from_bytes(bytes(bad))


def test_every_truncation_is_noticed():
    data = to_bytes(tokens("discrete"))
    for length in range(len(data)):
        with refused():
            from_bytes(data[:length])
    with refused("damaged"):
        from_bytes(data + b"\0")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"words", "not a token file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "not a token file"),
        (safetensors.torch.save({"latents": torch.zeros(1)}), "safetensors"),
        (safetensors.torch.save({"latents": torch.zeros(1)}, {"format": "pt"}), "safetensors"),
    ],
)
def test_files_that_are_not_ours(tmp_path, data, words):
    path = tmp_path / "a.atok"
    path.write_bytes(data)
    with refused("a.atok", words):
        Tokens.load(path)


def numbers(count):
    return torch.arange(count, dtype=torch.float64)


CUBE = {"modality": "3d", "grid": (1, 4, 4, 4), "coords": dense_coords((1, 4, 4, 4))[::7].contiguous()}
CODES = {"kind": "discrete", "values": torch.full((6, 3), 99).to(torch.uint16)}
CONTRADICTIONS = [
    ({"grid": (1, 2, 4, 1)}, "6 tokens", "grid"),
    ({"grid": (1, -2, -3, 1)}, "grid"),
    ({"grid": (1, 2, 3)}, "grid"),
    ({"grid": (1, 2, 3.0, 1)}, "grid"),
    ({"grid": (2, 1, 3, 1)}, "grid", "image"),
    ({"grid": (1, 100000, 100000, 1)}, "6 tokens", "grid"),
    ({"grid": (1, 10**400, 10**400, 1)}, "6 tokens", "grid"),
    ({"coords": dense_coords(GRID).flip(0)}, "coords", "grid (1, 2, 3, 1)"),
    ({"coords": dense_coords(GRID) + 1}, "coords"),
    ({"coords": dense_coords(GRID).long() << 40}, "coords", "int64"),
    ({"coords": dense_coords(GRID)[:5]}, "coords", "[5, 4]"),
    ({"box": (0, 0, 33, 20), "size": (33, 20)}, "box", "32 rows and 48 columns"),
    ({"box": (20, 0, 20, 33)}, "box"),
    ({"box": (-1, 0, 20, 33)}, "box"),
    ({"box": (0, 0, 0, 33), "size": (0, 33)}, "box"),
    ({"box": ("a" * 5000,) * 4}, "box"),
    ({"box": [0, 0, 20, 33, "x"]}, "box"),
    ({"size": (21, 33)}, "size (21, 33)", "box (0, 0, 20, 33)"),
    ({"values": torch.full((6, 48), torch.nan)}, "NaN"),
    ({"values": torch.full((6, 48), torch.inf)}, "infinite"),
    ({"values": torch.zeros(6, 48, dtype=torch.int32)}, "latents of int32 [6, 48]"),
    ({"values": torch.zeros(6, 4, 12)},),
    ({**CODES, "fsq": ((4,) * 6,) * 7}, "codes"),
    ({**CODES, "fsq": ((4, 4), (4, 4), (9000,))}, "code"),
    ({**CODES, "fsq": ((1,),) * 3}, "fsq", "at least 2"),
    ({**CODES, "fsq": tuple(((4096, 4096),) * 5000)}, "fsq"),
    ({"value_range": (1.0, -1.0)}, "value_range"),
    ({"value_range": (-1.0, float("inf"))}, "value_range"),
    ({"times": numbers(1)}, "times", "image"),
    ({"first_frame": 1}, "first frame", "image"),
    ({"transform": ((1.0,) * 4,) * 4}, "transform"),
    ({"modality": "video", "times": numbers(5)}, "5 frames", "1 steps"),
    ({"modality": "video", "times": numbers(2), "first_frame": 3}, "2 frames from frame 3"),
    ({"modality": "video", "times": numbers(2), "first_frame": -1}, "2 frames from frame -1"),
    ({"modality": "video", "times": numbers(3).flip(0)}, "times"),
    ({"modality": "video", "times": numbers(3) * torch.nan}, "times"),
    ({"modality": "video", "times": numbers(3).float()}, "times"),
    ({**CUBE, "grid": (1, 4, 4, 3)}, "coords", "grid"),
    ({**CUBE, "coords": CUBE["coords"] - 1}, "coords", "grid"),
    ({**CUBE, "coords": CUBE["coords"] * 0}, "coords"),
    ({**CUBE, "grid": (1, 4, 4, 1025)}, "1024 voxels"),
    ({**CUBE, "grid": (2, 4, 4, 4)}, "grid", "time"),
    ({**CUBE, "transform": ((1.0, 2.0),)}, "transform"),
    ({**CUBE, "box": (0, 0, 10**300, 1), "size": (10**300, 1)}, "box"),
    ({"spatial_tile": 250}, "spatial_tile", "16"),
    ({"spatial_tile": -16}, "spatial_tile"),
    ({"compute_dtype": "int8"}, "compute_dtype", "bfloat16"),
    ({"light": "x" * 5000}, "light"),
]
NAMES = [", ".join(names) or "matrix" for _, *names in CONTRADICTIONS]


def with_values(changes):
    """The changes, with as many latents as there are coords."""
    count = len(changes["coords"]) if "grid" in changes and "coords" in changes else 6
    return {"values": torch.zeros(count, 48)} | changes


def raw(**changes) -> Tokens:
    """Tokens that nobody has checked."""
    made = object.__new__(Tokens)
    vars(made).update(vars(tokens()) | changes)
    return made


def file_of(made, metadata=None):
    """The file of such tokens, written as they are by safetensors, with these metadata."""
    tensors = {values_name(made.kind): stored_values(made)}
    tensors |= {} if made.times is None else {"times": made.times}
    tensors |= {} if torch.equal(made.coords, dense_coords(GRID)) else {"coords": made.coords}
    return sealed(safetensors.torch.save(tensors, {**(metadata or made.to_metadata()), "checksum": "0" * 64}))


@pytest.mark.parametrize(("changes", "named"), [(changes, named) for changes, *named in CONTRADICTIONS], ids=NAMES)
def test_tokens_that_contradict_themselves(changes, named, tmp_path):
    with refused("tokens contradict themselves", *named):
        tokens(**with_values(changes))
    made = raw(**with_values(changes))
    (tmp_path / "a.atok").write_bytes(file_of(made))
    for read in (Tokens.load, TokenFile) if made.modality == "video" else (Tokens.load,):
        with refused("a.atok", *named, error=ReadError):
            read(tmp_path / "a.atok")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"values": [[0.0] * 48] * 6}, "list"),
        ({"coords": [[0, 0, 0, 0]] * 6}, "list"),
        ({"modality": "video", "times": [0.0]}, "list"),
        ({"grid": None}, "grid"),
        ({"size": 20}, "size"),
        ({"kind": 3}, "kind"),
        ({"modality": None}, "modality"),
        ({"model": 7}, "model"),
        ({"weights": None}, "weights"),
        ({"first_frame": None}, "first frame"),
        ({"spatial_tile": 64.0}, "spatial_tile"),
        ({"light": 3}, "light"),
    ],
)
def test_fields_of_another_type(changes, named):
    with refused(named):
        tokens(**changes)


def test_tokens_made_wrong_in_place_are_not_written(tmp_path):
    made = tokens()
    made.values[0, 0] = torch.nan
    with refused("NaN"):
        made.save(tmp_path / "a.atok")
    assert list(tmp_path.iterdir()) == []


def test_a_video_needs_times(tmp_path):
    (tmp_path / "a.atok").write_bytes(file_of(raw(modality="video")))
    for read in (Tokens.load, TokenFile):
        with refused("a.atok", "video"):
            read(tmp_path / "a.atok")


OPTIONAL = {"spatial_tile": 256, "light": "headlight", "compute_dtype": "bfloat16"}


def test_optional_facts_are_written_only_where_they_are_set(tmp_path):
    for name, value in OPTIONAL.items():
        made = tokens(modality="video", times=numbers(3), **{name: value})
        made.save(tmp_path / "a.atok")
        with safetensors.safe_open(tmp_path / "a.atok", "np") as file:
            header = file.metadata()
        assert (header.keys() & OPTIONAL.keys(), header[name]) == ({name}, str(value))
        assert Tokens.load(tmp_path / "a.atok") == made
        with TokenFile(tmp_path / "a.atok") as file:
            assert getattr(file, name) == value
            assert getattr(file.frames(1, 2), name) == value


def test_only_what_decoding_depends_on_raises_the_version():
    versions = {name: tokens(**{name: value}).to_metadata()["version"] for name, value in OPTIONAL.items()}
    assert versions == {"spatial_tile": "2", "light": "1", "compute_dtype": "1"}


def test_keys_of_later_versions_are_left_out():
    made = tokens()
    assert from_bytes(file_of(made, {**made.to_metadata(), "something": "new"})) == made


def test_equal_tokens():
    made = tokens()
    assert made == replace(made, values=made.values.clone())
    for changes in ({"values": made.values + 1}, {"values": made.values.double()}, {"model": "other"}):
        assert made != replace(made, **changes)
    video = tokens(modality="video", times=numbers(3), values=made.values)
    assert video == replace(video)
    assert video != replace(video, times=numbers(2))
    assert made != video
    assert made != "tokens"
    packed = two_pictures()
    assert packed == Packed(packed.feats.clone(), packed.coords.clone())
    assert packed != packed.with_feats(packed.feats + 1)


SAVE = """
import sys, torch
sys.path[:0] = sys.argv[1:]
from test_tokens import tokens, numbers
from atoken.tokens.file import to_bytes
import hashlib
made = tokens("discrete", modality="video", times=numbers(3), values=torch.ones(6, 8, dtype=torch.uint16))
print(hashlib.sha256(to_bytes(made)).hexdigest())
"""


@pytest.mark.slow
def test_a_file_is_the_same_bytes_in_every_process():
    run = [sys.executable, "-c", SAVE, *map(str, Path(__file__).parents[:2])]
    assert len({subprocess.run(run, check=True, capture_output=True).stdout for _ in range(3)}) == 1


def test_our_header_is_what_safetensors_would_write_but_for_the_order_of_the_metadata():
    for made in (tokens(), tokens("discrete"), tokens(**with_values(CUBE)), tokens(modality="video", times=numbers(3))):
        ours, theirs = (safetensors.torch.load(data) for data in (to_bytes(made), file_of(made)))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert from_bytes(file_of(made)) == made  # files of before


@pytest.mark.parametrize("modality", ["image", "video"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("grid", "[" * 100000),
        ("grid", "6"),
        ("grid", "null"),
        ("grid", "words"),
        ("size", '["a", "b"]'),
        ("size", "9" * 5000),
        ("box", "{}"),
        ("version", "one"),
        ("kind", "other"),
        ("modality", "sound"),
    ],
)
def test_headers_that_say_nothing_sensible(modality, key, value, tmp_path):
    made = tokens(modality=modality, times=numbers(3) if modality == "video" else None)
    (tmp_path / "a.atok").write_bytes(file_of(made, {**made.to_metadata(), key: value}))
    for read in (Tokens.load, TokenFile) if modality == "video" else (Tokens.load,):
        with refused("a.atok"):
            read(tmp_path / "a.atok")


@pytest.mark.parametrize("dtype", ["F8_E8M0", "F4", "BOOL"])
@pytest.mark.parametrize("read", [Tokens.load, TokenFile])
def test_tensors_of_a_type_that_we_do_not_have(dtype, read, tmp_path):
    made = tokens(modality="video", times=numbers(3))
    size = 6 * (24 if dtype == "F4" else 48)
    header = {
        "__metadata__": {**made.to_metadata(), "checksum": "0" * 64},
        "latents": {"dtype": dtype, "shape": [6, 48], "data_offsets": [0, size]},
        "times": {"dtype": "F64", "shape": [3], "data_offsets": [size, size + 24]},
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = len(text).to_bytes(8, "little") + text + bytes(size) + made.times.numpy().tobytes()
    (tmp_path / "a.atok").write_bytes(sealed(data))
    with refused("a.atok", dtype):
        read(tmp_path / "a.atok")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bad_latents_of_a_video_are_noticed_step_by_step(value, tmp_path):
    torch.manual_seed(0)
    model = AToken(PRESETS["tiny"]).eval()
    made = tokens(modality="video", times=numbers(3), weights=model.weights_hash)
    made.values[5, 40] = value
    (tmp_path / "a.atok").write_bytes(file_of(made))
    with refused("a.atok", "NaN"):
        list(model.decode_stream(tmp_path / "a.atok"))


@pytest.mark.parametrize("changes", [{"value_range": (0.0, 1.0)}, {"fsq": ((16, 16, 16),) * 8}])
def test_tokens_of_other_pixels_or_codes_than_the_models(changes):
    torch.manual_seed(0)
    model = AToken(PRESETS["tiny"]).eval()
    with refused("tiny", *changes):
        model.decode(tokens("discrete", weights=model.weights_hash, **changes))


def test_a_newer_version_says_so_before_anything_else():
    data = to_bytes(tokens()).replace(b'"version":"1"', f'"version":"{VERSION + 1}"'.encode())
    with refused("newer version", VERSION + 1):
        from_bytes(data)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        Tokens.load(tmp_path / "none.atok")
    with refused(tmp_path, error=OSError):
        Tokens.load(tmp_path)


def test_tokens_of_another_model_are_refused():
    torch.manual_seed(0)
    ours, theirs = AToken(PRESETS["tiny"]), AToken(PRESETS["tiny"])
    made = from_bytes(to_bytes(theirs.encode(np.zeros((20, 33, 3), np.uint8))))
    assert theirs.decode(made).shape == (20, 33, 3)
    with refused("tiny", theirs.weights_hash[:12], ours.weights_hash[:12]):
        ours.decode(made)


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
    with refused(path, os.strerror(errno.ENOSPC), error=OSError):
        tokens("discrete").save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
