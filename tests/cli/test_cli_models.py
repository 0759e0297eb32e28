"""info and convert."""

import json
import pickle
import re

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import atoken as library
from atoken import PRESETS, AToken
from atoken.tokens.file import BLANK, sealed
from refusals import check_names


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(2)
    return AToken(PRESETS["tiny"]).state_dict()


def facts(text: str) -> dict[str, str]:
    return dict(re.split(r"  +", line.strip(), maxsplit=1) for line in text.splitlines() if line.startswith("  "))


def stored_dtypes(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = file.keys()
        return {file.get_tensor(name).dtype for name in names}


@pytest.mark.slow
def test_info_of_a_token_file(atoken, tiny, picture, tmp_path):
    path = tmp_path / "a.atok"
    assert (
        atoken("encode", picture(tmp_path / "a.png"), "--model", tiny, "--kind", "discrete", "--out", path).exit_code
        == 0
    )
    result = atoken("info", path)
    assert result.exit_code == 0
    told, size = facts(result.stdout), path.stat().st_size
    assert result.stdout.startswith(f"{path}\n")
    assert told["what"] == "token file"
    assert (told["kind"], told["model"], told["modality"]) == ("discrete", "tiny", "image")
    assert told["weights"] == library.load(tiny).weights_hash
    assert (told["tokens"], told["codes"]) == ("6", "[6, 8] uint16")
    assert (told["size"], told["grid"], told["fsq"]) == ("33 x 20", "[1, 2, 3, 1]", json.dumps([[4] * 6] * 8))
    assert (told["version"], told["compute_dtype"]) == ("1", "float32")
    assert told["bytes"].startswith(str(size))
    assert told["bits per pixel"] == f"{8 * size / 660:.3f}"


def test_info_of_a_picture(atoken, picture, tmp_path):
    path = picture(tmp_path / "a.jpg")
    told = facts(atoken("info", path).stdout)
    assert told["what"] == "picture"
    assert told["stored as"] == "JPEG, mode RGB"
    assert (told["size"], told["tokens"]) == ("33 x 20", "6")
    assert told["bits per pixel"] == f"{8 * path.stat().st_size / 660:.3f}"


def test_info_of_models(atoken, tiny, state, tmp_path):
    checkpoint = tmp_path / "atoken-soc.pt"
    torch.save({name: tensor.bfloat16() for name, tensor in state.items()}, checkpoint)
    result = atoken("info", tiny, checkpoint)
    assert result.exit_code == 0, result.output
    folder, released = map(facts, result.stdout.split("\n\n"))
    parameters = sum(tensor.numel() for tensor in state.values())
    assert (folder["what"], released["what"]) == ("model folder", "released checkpoint")
    assert folder["parameters"] == released["parameters"] == str(parameters)
    assert (folder["dtype"], released["dtype"]) == ("float32", "bfloat16")
    assert (folder["width"], released["width"]) == ("64", "64")
    assert (folder["kinds"], released["kinds"]) == ("continuous, discrete", "continuous")
    assert folder["weights"] == library.load(tiny).weights_hash


@pytest.mark.slow
def test_info_of_a_shipped_model(atoken):
    told = facts(atoken("info", "nano").stdout)
    assert (told["name"], told["dtype"]) == ("nano", "bfloat16, float32")  # int8 becomes float32


def test_info_goes_on_after_a_bad_file(atoken, picture, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    good = picture(tmp_path / "good.png")
    result = atoken("info", tmp_path / "gone.pt", tmp_path / "bad.png", tmp_path / "folder", good)
    assert result.exit_code == 2
    assert f"{good}\n" in result.stdout
    lines = result.stderr.splitlines()
    for line, name in zip(lines, ("gone.pt", "bad.png", "folder"), strict=True):
        check_names(line, tmp_path / name)


def test_info_writes_out_control_characters_of_keys_and_values(atoken, tiny, picture, tmp_path):
    path = tmp_path / "a.atok"
    atoken("encode", picture(tmp_path / "a.png"), "--model", tiny, "--out", path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    odd = {"\x1b[2Jkey\n": "\x1b]0;title\x07\n", "k" * 5000: "v" * 100_000}
    header["__metadata__"] |= {**odd, "checksum": BLANK.decode()}
    head = json.dumps(header, separators=(",", ":")).encode()
    path.write_bytes(sealed(len(head).to_bytes(8, "little") + head + data[8 + length :]))
    result = atoken("info", path)
    assert result.exit_code == 0, result.stderr
    assert all(c.isprintable() or c == "\n" for c in result.stdout)
    assert "\\x1b[2Jkey" in result.stdout
    assert max(map(len, result.stdout.splitlines())) < 2000


def test_info_goes_on_after_what_nobody_thought_of(atoken, picture, tmp_path, monkeypatch):
    paths = [picture(tmp_path / name) for name in ("a.png", "b.png")]

    def described(path):
        if path == paths[0]:
            raise TypeError("odd")
        return {"what": "picture"}

    monkeypatch.setattr("atoken.cli.info._picture_facts", described)
    result = atoken("info", *paths)
    assert result.exit_code == 1
    check_names(result.stderr, paths[0], "internal error", "TypeError")
    assert f"{paths[1]}\n" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_convert_keeps_the_weights(atoken, state, picture, tmp_path, suffix):
    checkpoint = tmp_path / f"atoken-sod{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, checkpoint)
    out = tmp_path / "new" / "model"
    result = atoken("convert", checkpoint, "--out", out)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors"]
    before, after = library.load(checkpoint), library.load(out)
    assert before.weights_hash == after.weights_hash
    assert after.weights_hash[:12] in result.stdout
    assert "discrete" in result.stdout
    assert after.config == before.config
    assert after.config.kinds == ("discrete",)
    assert stored_dtypes(out) == {torch.float32}
    path = picture(tmp_path / "a.png")
    assert torch.equal(before.encode(path).codes, after.encode(path).codes)


@pytest.mark.slow
def test_convert_as_stored_and_to_another_precision(atoken, state, tmp_path):
    checkpoint = tmp_path / "atoken-soc.pt"
    torch.save({name: tensor.bfloat16() for name, tensor in state.items()}, checkpoint)
    assert atoken("convert", checkpoint, "--out", tmp_path / "same").exit_code == 0
    assert stored_dtypes(tmp_path / "same") == {torch.bfloat16}
    result = atoken("convert", checkpoint, "--out", tmp_path / "wide", "--dtype", "float32")
    assert result.exit_code == 0
    assert "rounding" not in result.stdout, "widening changes no weight"
    assert stored_dtypes(tmp_path / "wide") == {torch.float32}
    torch.save(state, checkpoint)
    result = atoken("convert", checkpoint, "--out", tmp_path / "half", "--dtype", "float16")
    assert result.exit_code == 0
    assert "rounding made these other weights" in result.stdout
    assert stored_dtypes(tmp_path / "half") == {torch.float16}


@pytest.mark.slow
def test_convert_of_mixed_precisions_loses_nothing(atoken, state, tmp_path):
    checkpoint = tmp_path / "atoken-soc.pt"
    torch.save({n: t.bfloat16() if "mlp" in n else t.half() for n, t in state.items()}, checkpoint)
    assert atoken("convert", checkpoint, "--out", tmp_path / "out").exit_code == 0
    assert stored_dtypes(tmp_path / "out") == {torch.float32}
    assert library.load(tmp_path / "out").weights_hash == library.load(checkpoint).weights_hash


@pytest.mark.parametrize("kind", [None, "continuous", "discrete"])
def test_the_kind_of_an_ambiguous_checkpoint(atoken, state, tmp_path, kind):
    checkpoint = tmp_path / "mystery.pt"
    torch.save(state, checkpoint)
    result = atoken("convert", checkpoint, "--out", tmp_path / "out", *(["--kind", kind] if kind else []))
    assert result.exit_code == 0, result.output
    recorded = json.loads((tmp_path / "out/config.json").read_text())["kinds"]
    if kind:
        assert (recorded, result.stderr) == ([kind], "")
    else:
        assert recorded == ["continuous", "discrete"]
        assert result.stderr.startswith("warning: mystery.pt does not say whether")
        assert result.stderr.count("\n") == 1


def test_a_kind_against_the_name_of_the_file(atoken, state, tmp_path):
    checkpoint = tmp_path / "atoken-soc.pt"
    torch.save(state, checkpoint)
    result = atoken("convert", checkpoint, "--out", tmp_path / "out", "--kind", "discrete")
    assert result.exit_code == 2
    assert result.stderr == f"error: --kind is 'discrete': {checkpoint} was trained for continuous tokens\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_convert_replaces_a_model_only_when_told(atoken, state, tiny, tmp_path):
    checkpoint, out = tmp_path / "atoken-soc.pt", tmp_path / "out"
    torch.save(state, checkpoint)
    library.load(tiny).save_pretrained(out)
    before = (out / "model.safetensors").read_bytes()
    result = atoken("convert", checkpoint, "--out", out)
    assert result.exit_code == 2
    assert result.stderr == f"error: {out} holds a model already: give another --out, or --overwrite to replace it\n"
    assert (out / "model.safetensors").read_bytes() == before
    assert atoken("convert", checkpoint, "--out", out, "--overwrite").exit_code == 0
    assert library.load(out).weights_hash == library.load(checkpoint).weights_hash


def test_convert_never_replaces_its_input(atoken, state, tmp_path):
    checkpoint = tmp_path / "model.safetensors"
    save_file(state, checkpoint)
    before = checkpoint.read_bytes()
    result = atoken("convert", checkpoint, "--out", tmp_path, "--overwrite")
    assert result.exit_code == 2
    check_names(result.stderr, checkpoint, "--out")
    assert checkpoint.read_bytes() == before


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_checkpoint_cut_in_half(atoken, state, tmp_path, suffix):
    checkpoint = tmp_path / f"atoken-soc{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, checkpoint)
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[: len(data) // 2])
    for arguments in (["convert", checkpoint, "--out", tmp_path / "out"], ["info", checkpoint]):
        result = atoken(*arguments)
        assert result.exit_code == 2
        check_names(result.stderr, checkpoint)
    assert not (tmp_path / "out").exists()


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.slow
def test_code_in_a_pickle_is_never_run(atoken, picture, state, tmp_path):
    sprung = tmp_path / "sprung"
    with (tmp_path / "plain.pt").open("wb") as file:
        pickle.dump({"weight": Trap(sprung)}, file, protocol=2)
    torch.save({**state, "weight": Trap(sprung)}, tmp_path / "zip.pt")
    for name in ("plain.pt", "zip.pt"):
        path = tmp_path / name
        for arguments in (
            ["convert", path, "--out", tmp_path / "out"],
            ["info", path],
            ["encode", picture(tmp_path / "a.png"), "--model", path],
        ):
            result = atoken(*arguments)
            assert result.exit_code == 2
            check_names(result.stderr, path, "code")
    assert not sprung.exists()
    pickle.loads((tmp_path / "plain.pt").read_bytes())["weight"].close()
    assert sprung.exists(), "the trap works"


@pytest.mark.parametrize("change", ["missing", "surplus", "shape", "nan"])
def test_a_wrong_file_yields_no_model(atoken, state, tmp_path, change):
    state = dict(state)
    name = "encoder.blocks.0.mlp.mlp.2.weight"
    assert name in state
    if change == "missing":
        del state[name]
    elif change == "surplus":
        state["extra"] = torch.zeros(1)
    elif change == "shape":
        state[name] = torch.zeros(3, 3)
    else:
        state[name] = torch.full_like(state[name], torch.nan)
    torch.save(state, tmp_path / "atoken-soc.pt")
    result = atoken("convert", tmp_path / "atoken-soc.pt", "--out", tmp_path / "out")
    assert result.exit_code == 2
    check_names(result.stderr, tmp_path / "atoken-soc.pt", "extra" if change == "surplus" else name)
    assert not (tmp_path / "out").exists()


def test_convert_of_what_is_no_checkpoint(atoken, tiny, picture, tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tiny, tmp_path / "gone.pt", picture(tmp_path / "a.png")):
        result = atoken("convert", path, "--out", tmp_path / "out")
        assert result.exit_code == 2
        check_names(result.stderr, path)
    assert not (tmp_path / "out").exists()


def test_convert_below_a_file(atoken, state, tmp_path):
    (tmp_path / "file").write_text("mine")
    torch.save(state, tmp_path / "atoken-soc.pt")
    result = atoken("convert", tmp_path / "atoken-soc.pt", "--out", tmp_path / "file" / "model")
    assert result.exit_code == 2
    check_names(result.stderr, tmp_path / "file")


@pytest.mark.slow
def test_convert_notices_a_model_that_does_not_read_back(atoken, state, tmp_path, monkeypatch):
    torch.save(state, tmp_path / "atoken-soc.pt")
    save = AToken.save_pretrained

    def faulty(self, directory):
        with torch.no_grad():
            self.proj.weight[0, 0] += 1
        save(self, directory)
        with torch.no_grad():
            self.proj.weight[0, 0] -= 1

    monkeypatch.setattr(AToken, "save_pretrained", faulty)
    result = atoken("convert", tmp_path / "atoken-soc.pt", "--out", tmp_path / "out")
    assert result.exit_code == 2
    check_names(result.stderr, tmp_path / "out")


@pytest.mark.slow
def test_convert_to_onnx(atoken, tiny, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    result = atoken("convert", tiny, "--onnx", "--size", "16x32", "--kind", "continuous", "--out", tmp_path / "onnx")
    assert result.exit_code == 0, result.stderr
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "encoder.onnx")
    assert session.get_inputs()[0].shape[1:] == [3, 16, 32]
    assert (tmp_path / "onnx" / "decoder.onnx").is_file()
    again = atoken("convert", tiny, "--onnx", "--out", tmp_path / "onnx")
    assert again.exit_code == 2
    check_names(again.stderr, "--overwrite")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--onnx", "--size", "16x"], "16x"),
        (["--onnx", "--size", "16x30"], "30"),
        (["--onnx", "--dtype", "float16"], "--dtype"),
        (["--size", "16x16"], "--onnx"),
    ],
)
def test_convert_to_onnx_as_it_cannot_be(atoken, tiny, tmp_path, options, named):
    pytest.importorskip("onnxruntime")
    result = atoken("convert", tiny, "--out", tmp_path / "onnx", *options)
    assert result.exit_code == 2
    check_names(result.stderr, named)
    assert not (tmp_path / "onnx").exists()
