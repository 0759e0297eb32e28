"""Saving and loading: exact there and back, and a wrong file never becomes a model."""

import errno
import json
import os
import pickle
import re
import sys
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch

import atoken
from atoken import PRESETS, AToken
from atoken.core.errors import ReadError
from atoken.metrics.psnr import psnr
from atoken.tokenizer.identity import tokenizer_hash
from atoken.weights.config import SHIPPED
from atoken.weights.files import read_state_dict
from atoken.weights.load import build
from refusals import refused

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 33, 3), dtype=np.uint8)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return AToken(replace(PRESETS["tiny"], name="mine")).eval()


def write(state, path):
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    return path


# Model folders


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_model_loads_as_it_was(model, tmp_path, dtype):
    model.to(dtype).save_pretrained(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]
    loaded = atoken.load(tmp_path / "model", dtype=dtype)
    assert loaded.config == model.config
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert loaded.weights_hash == model.weights_hash
    assert np.array_equal(loaded.decode(model.encode(PICTURE)), model.decode(model.encode(PICTURE)))


def test_the_hash_follows_the_weights(model, tmp_path):
    before = model.weights_hash
    assert model.weights_hash == before
    with torch.no_grad():
        model.proj.weight[0, 0] += 1
    assert model.weights_hash != before
    assert model.weights_hash == tokenizer_hash(model.config, model.state_dict())
    with refused("mine", before[:12], model.weights_hash[:12]):
        model.decode(replace(model.encode(PICTURE), weights=before))


@pytest.mark.parametrize(
    ("key", "value"), [("rope", False), ("latent_norm", False), ("encoder_tile", 3), ("fsq_levels", [[4] * 8] * 6)]
)
def test_an_edited_config_is_another_model(model, tmp_path, key, value):
    tokens = model.encode(PICTURE, kind="discrete")
    model.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert values[key] != value
    (tmp_path / "config.json").write_text(json.dumps({**values, key: value}))
    loaded = atoken.load(tmp_path)
    assert loaded.weights_hash != model.weights_hash
    with refused("mine", model.weights_hash[:12]):
        loaded.decode(tokens)


def test_what_does_not_change_tokens_does_not_change_the_hash(model):
    other = replace(model.config, name="other", kinds=("discrete",), decoder_cache=1, logit_bias=0.0, text_tower="x")
    assert tokenizer_hash(other, model.state_dict()) == model.weights_hash
    assert tokenizer_hash(replace(other, heads=4), model.state_dict()) != model.weights_hash
    assert tokenizer_hash(replace(other, output_norm=False), model.state_dict()) != model.weights_hash


@pytest.mark.slow
def test_shipped_models_load_by_name_and_are_small():
    assert "nano" in atoken.list_models()
    nano = atoken.load("nano")
    learnt = ("kinds", "fsq_levels", "gaussians", "text_tower", "embed_dim", "embed_tokens", "spatial_tile")
    learnt += ("logit_scale", "logit_bias")
    assert nano.config == replace(PRESETS["nano"], **{name: getattr(nano.config, name) for name in learnt})
    assert sum(path.stat().st_size for path in (SHIPPED / "nano").iterdir()) <= 16e6
    assert all(p.dtype == torch.float32 and p.requires_grad for p in nano.parameters())


@pytest.mark.slow
def test_the_shipped_discrete_model_makes_twelve_bytes_a_patch_and_brings_the_picture_back(tmp_path):
    model = atoken.load("nano-discrete")
    assert model.config.kinds == ("discrete",)
    assert model.config.text_tower is None  # its encoder has moved away from the words that nano's head learnt
    assert sum(path.stat().st_size for path in (SHIPPED / "nano-discrete").iterdir()) <= 16e6
    ramp = np.linspace(0, 255, 64).round().astype(np.uint8)
    picture = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.full((64, 64), 90, np.uint8)], -1)
    tokens = model.encode(picture)
    assert (tokens.codes.shape, int(tokens.codes.int().max()) < 4096) == ((16, 8), True)
    tokens.save(tmp_path / "a.atok")
    assert psnr(model.decode(atoken.Tokens.load(tmp_path / "a.atok")), picture) > 25


def test_a_loaded_model_can_be_trained(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = atoken.load(tmp_path)
    packed = atoken.Packed(torch.randn(1, 3072), torch.zeros(1, 5, dtype=torch.int32))
    loaded.encode_packed(packed).moments.sum().backward()
    assert loaded.proj.weight.grad is not None


@pytest.mark.parametrize(
    ("source", "error", "named", "remedy"),
    [
        ("nothing-here", FileNotFoundError, "nothing-here", "nano"),
        ("so400m", ValueError, "so400m", "PRESETS"),
        ("none.pt", FileNotFoundError, "none.pt", "nano"),
    ],
)
def test_sources_that_are_nothing(source, error, named, remedy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with refused(named, remedy, error=error):
        atoken.load(source)


@pytest.mark.parametrize(
    ("source", "options", "named"),
    [
        ("", {}, ["source", "''"]),
        (None, {}, ["source", "None"]),
        ("nano", {"device": "foo"}, ["device", "foo", "cuda:N"]),
        ("nano", {"device": "cuda:99"}, ["device", "cuda:99"]),
        ("nano", {"device": 3.5}, ["device", "3.5", "cpu"]),
        ("nano", {"dtype": "bfloat16"}, ["dtype", "'bfloat16'", "torch.bfloat16"]),
        ("nano", {"dtype": torch.int8}, ["dtype", "torch.int8", "torch.bfloat16"]),
    ],
)
def test_arguments_that_cannot_be(source, options, named):
    with refused(*named):
        atoken.load(source, **options)


def test_a_hub_name_without_the_package_names_the_remedy(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with refused("someone/something", "pip install huggingface_hub", error=FileNotFoundError):
        atoken.load("someone/something")


def test_a_hub_name_is_a_folder_once_downloaded(model, monkeypatch, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    model.save_pretrained(tmp_path / "snapshot")
    monkeypatch.setattr(hub, "snapshot_download", lambda name, allow_patterns: str(tmp_path / "snapshot"))
    assert atoken.load("someone/something").weights_hash == model.weights_hash


def test_folders_that_are_no_model(model, tmp_path):
    with refused(tmp_path, "config.json", error=FileNotFoundError):
        atoken.load(tmp_path)
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with refused(tmp_path, "model.safetensors", error=FileNotFoundError):
        atoken.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with refused("model.safetensors", error=ReadError):
        atoken.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "config.json"),
        ('{"width": 64}', "name"),
        ("[]", "list"),
        ("\xff", "config"),
        ("[" * 100_000, "config"),
        ("9" * 10_000, "config"),
        ('{"' + "x" * 10_000 + '": 1}', "xxx"),
    ],
)
def test_a_broken_config(model, tmp_path, text, words):
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(text, "latin-1")
    with refused("config.json", words, error=ReadError):
        atoken.load(tmp_path)


def test_config_and_weights_must_fit(model, tmp_path):
    model.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "decoder_depth": 3}))
    with refused(tmp_path, "decoder_depth", 3, 2):
        atoken.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**values, "mlp_width": 64}))
    with refused(tmp_path, [128, 64], [64, 64]):
        atoken.load(tmp_path)


# Released checkpoints


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize(("stem", "kinds"), [("atoken-soc", ("continuous",)), ("atoken-sod-2", ("discrete",))])
def test_the_architecture_is_read_off_the_tensors(golden, tmp_path, suffix, stem, kinds):
    path = write(golden.state(), tmp_path / f"{stem}{suffix}")
    loaded = atoken.load(path)
    c = golden.config
    assert loaded.config == replace(golden.model().config, name=stem, kinds=kinds)
    assert (loaded.config.width, loaded.config.heads, loaded.config.mlp_width) == (c["width"], c["heads"], c["mlp"])
    assert loaded.weights_hash == golden.model().weights_hash


def test_other_depths_and_latents(tmp_path):
    made = AToken(replace(PRESETS["tiny"], encoder_depth=3, decoder_depth=3, latent_channels=32, kinds=("continuous",)))
    loaded = atoken.load(write(made.state_dict(), tmp_path / "a.pt"))
    assert loaded.config == replace(made.config, name="a")


def test_a_file_that_does_not_say_its_kind_warns(golden, tmp_path):
    path = write(golden.state(), tmp_path / "mine.pt")
    with pytest.warns(UserWarning, match=r"mine\.pt"):
        assert atoken.load(path).config.kinds == ("continuous", "discrete")


def test_missing_and_surplus_tensors_are_listed(golden, tmp_path):
    state = golden.state()
    del state["encoder.blocks.0.norm1.weight"], state["decoder.out_layer.weight"]
    state["encoder.extra"] = torch.zeros(1)
    with refused("atoken-soc.pt", "encoder.blocks.0.norm1.weight", "decoder.out_layer.weight", "encoder.extra"):
        atoken.load(write(state, tmp_path / "atoken-soc.pt"))


@pytest.mark.parametrize(
    ("left_out", "words"),
    [
        (r"decoder\.out_norm\.weight", "decoder.out_norm.weight"),
        (r"encoder\.post_layernorm\.", "encoder.post_layernorm.weight"),
        (r"decoder\.blocks\.1\.", "decoder.blocks.1"),
        (r"encoder\.blocks\.1\.", "encoder.blocks.1"),
        (r"\w+\.blocks\.0\.", "decoder.blocks.0.attn.q_rms_norm.gamma"),
    ],
)
def test_whole_parts_that_are_missing(golden, tmp_path, left_out, words):
    state = {name: tensor for name, tensor in golden.state().items() if not re.match(left_out, name)}
    with refused("atoken-soc.pt", words):
        atoken.load(write(state, tmp_path / "atoken-soc.pt"))


def test_blocks_that_leave_a_gap_are_refused_before_anything_is_built(golden, tmp_path, monkeypatch):
    monkeypatch.setattr("atoken.pipeline.atoken.AToken", lambda config: pytest.fail("a model was built"))
    state = golden.state() | {"encoder.blocks.999999999.x": torch.zeros(1)}
    with refused("atoken-soc.pt", "encoder.blocks.2", "encoder.blocks.999999999"):
        atoken.load(write(state, tmp_path / "atoken-soc.pt"))


@pytest.mark.parametrize(
    "name",
    [
        *("encoder.input_layer.weight", "decoder.input_layer.weight", "decoder.blocks.0.attn.q_rms_norm.gamma"),
        *("encoder.blocks.0.mlp.mlp.0.weight", "encoder.pos_embedder.position_embedding.weight"),
    ],
)
@pytest.mark.parametrize("shape", [(), (5,), (1, 2, 3)])
def test_tensors_that_are_no_matrix(golden, tmp_path, name, shape):
    state = golden.state() | {name: torch.zeros(shape)}
    with refused("atoken-soc.pt", name, list(shape)):
        atoken.load(write(state, tmp_path / "atoken-soc.pt"))


def test_names_that_are_no_text(golden, tmp_path):
    with refused("atoken-soc.pt", 7):
        atoken.load(write({7: torch.zeros(1), **golden.state()}, tmp_path / "atoken-soc.pt"))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int64, torch.complex64, torch.bool])
@pytest.mark.parametrize("where", ["atoken-soc.pt", "model.safetensors"])
def test_dtypes_that_weights_do_not_have(golden, tmp_path, dtype, where):
    golden.model().save_pretrained(tmp_path)
    state = golden.state()
    state["proj.weight"] = state["proj.weight"].to(dtype)
    path = write(state, tmp_path / where)
    with refused(where, "proj.weight", str(dtype).removeprefix("torch."), "float32"):
        atoken.load(path if path.suffix == ".pt" else tmp_path)


@pytest.mark.parametrize("change", [lambda t: t.to_sparse(), lambda t: t.to("meta")])
def test_weights_that_are_not_dense(golden, tmp_path, change):
    state = golden.state()
    state["proj.weight"] = change(state["proj.weight"])
    with refused("atoken-soc.pt", "proj.weight"):
        atoken.load(write(state, tmp_path / "atoken-soc.pt"))


def test_a_long_list_is_cut(model):
    state = {f"extra.{i}": torch.zeros(1) for i in range(50)} | model.state_dict()
    with pytest.raises(ValueError, match=r"here .*extra\.4 .*45 more$"):
        build(model.config, state, "cpu", torch.float32, "here")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(golden, tmp_path, value):
    state = golden.state()
    state["proj.weight"][3, 3] = value
    with refused("atoken-soc.pt", "proj.weight"):
        atoken.load(write(state, tmp_path / "atoken-soc.pt"))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.99])
def test_a_checkpoint_cut_short(golden, tmp_path, suffix, share):
    path = write(golden.state(), tmp_path / f"atoken-soc{suffix}")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with refused(path, error=ReadError):
        atoken.load(path)


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_refused_and_not_run(golden, tmp_path, zipped):
    mark = tmp_path / "ran"
    state = {**golden.state(), "bomb": Bomb(mark)}
    torch.save(state, tmp_path / "atoken-soc.pt", _use_new_zipfile_serialization=zipped)
    with refused("atoken-soc.pt", "code", error=ReadError):
        atoken.load(tmp_path / "atoken-soc.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb(mark)))
    with refused("plain.pt", error=ReadError):
        atoken.load(tmp_path / "plain.pt")
    assert not mark.exists()


def rezipped(source, path, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(path, "w", compression) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))


@pytest.mark.slow
def test_a_compressed_checkpoint_is_refused_before_it_is_unpacked(golden, tmp_path):
    torch.save(golden.state(), tmp_path / "whole.pt")
    rezipped(tmp_path / "whole.pt", tmp_path / "again.pt")
    assert len(read_state_dict(tmp_path / "again.pt")) == len(golden.state())
    rezipped(tmp_path / "whole.pt", tmp_path / "bomb.pt", zipfile.ZIP_DEFLATED)
    with refused("bomb.pt", "compressed", "torch.save", error=ReadError):
        read_state_dict(tmp_path / "bomb.pt")
    data = (tmp_path / "again.pt").read_bytes()
    at = data.rindex(b"PK\x01\x02")  # the last entry of the directory announces another size
    (tmp_path / "long.pt").write_bytes(data[: at + 20] + b"\xf0\xff\xff\x7f" * 2 + data[at + 28 :])
    with refused("long.pt", error=ReadError):
        read_state_dict(tmp_path / "long.pt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"model": {"a": torch.zeros(1)}, "step": 3}, "model, step"),
        ([torch.zeros(1)], "list"),
        ({}, "encoder.input_layer.weight"),
        ({"encoder.input_layer.weight": torch.zeros(4)}, "[4]"),
    ],
)
def test_other_contents(tmp_path, content, words):
    torch.save(content, tmp_path / "a.pt")
    with refused("a.pt", words):
        atoken.load(tmp_path / "a.pt")


def test_another_network_of_patches(golden, tmp_path):
    state = golden.state()
    state["encoder.input_layer.weight"] = state["encoder.input_layer.weight"][:, :768].contiguous()
    with refused("atoken-soc.pt", 768):
        atoken.load(write(state, tmp_path / "atoken-soc.pt"))


def test_a_suffix_that_is_no_checkpoint(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"x")
    with refused("a.bin", ".safetensors"):
        atoken.load(tmp_path / "a.bin")


def test_a_failed_save_leaves_the_old_model(model, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(state, path, metadata):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with refused("model.safetensors", os.strerror(errno.ENOSPC), error=OSError):
        AToken(model.config).save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_disk_that_takes_no_more(model, tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with refused("model.safetensors", error=OSError) as caught:
            model.save_pretrained(tmp_path / "m")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_loading_says_nothing_when_all_is_well(model, tmp_path):
    model.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = atoken.load(tmp_path)
        assert atoken.load("nano").config.name == "nano"
    assert again.weights_hash == model.weights_hash
