"""The network over padded batches, and its ONNX files, against the packed one."""

import json

import pytest
import torch

from atoken import PRESETS, AToken, ModelConfig
from atoken.adapters.dense import encode
from atoken.adapters.padded import PaddedDecoder, PaddedEncoder, PixelDecoder, PixelEncoder
from atoken.nn.packed import Packed, dense_coords
from refusals import refused

GRIDS = [(1, 4, 6), (1, 3, 3), (6, 2, 2), (1, 20, 17)]
EXACT = {"atol": 1e-5, "rtol": 1e-4}  # fp32 sums of at most 3072 terms, in another order


def padded(samples):
    """Feats, coords and mask of (feats [n, F], coords [n, 4])."""
    most = max(len(feats) for feats, _ in samples)
    mask = torch.stack([torch.arange(most) < len(feats) for feats, _ in samples])
    pad = torch.nn.utils.rnn.pad_sequence
    feats = pad([feats for feats, _ in samples], batch_first=True, padding_value=9.0)
    return feats, pad([coords.long() for _, coords in samples], batch_first=True, padding_value=7), mask


def clips(width=3072):
    torch.manual_seed(1)
    return [
        (torch.rand(rows * columns * steps, width) * 2 - 1, dense_coords((steps, rows, columns, 1)))
        for steps, rows, columns in GRIDS
    ]


def voxels():
    torch.manual_seed(2)
    return [
        (
            torch.rand(n, 768) * 2 - 1,
            torch.unique(torch.randint(0, 9, (4 * n, 4)) * torch.tensor([0, 1, 1, 1]), dim=0)[:n].int(),
        )
        for n in (11, 30)
    ]


CONFIGS = {
    "released": PRESETS["tiny"],
    "as nano": ModelConfig(
        "n", 64, 2, 2, 3, 96, latent_norm=False, output_norm=False, gelu="none", embed_dim=20, table_size=8
    ),
    "without rotations": ModelConfig("n", 64, 2, 2, 1, 96, rope=False),
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("samples", [clips(), clips(768), voxels()], ids=["clips", "pictures", "voxels"])
def test_padded_is_packed(name, samples):
    torch.manual_seed(0)
    model = AToken(CONFIGS[name]).eval()
    feats, coords, mask = padded(samples)
    packed = Packed.cat(samples)
    with torch.no_grad():
        latents, logvar, hidden, pooled = PaddedEncoder(model, "continuous")(feats, coords, mask)
        patches = PaddedDecoder(model, "continuous", 3072)(latents, coords, mask)
        expected = model.encode_packed(packed)
        decoded = model.decode_packed(packed.with_feats(expected.posterior.mean))
    assert torch.allclose(latents[mask], expected.posterior.mean, **EXACT)
    assert torch.allclose(logvar[mask], expected.posterior.logvar, **EXACT)
    assert torch.allclose(hidden[mask], expected.hidden, **EXACT)
    assert torch.allclose(pooled, expected.pooled, **EXACT)
    assert torch.allclose(patches[mask], decoded, **EXACT)


def test_padded_codes(tiny):
    levels = ((4,) * 6,) * 6 + ((5, 3), (8, 2, 2), (1001, 3), (7,))
    model = AToken(ModelConfig("d", 64, 2, 1, 1, 96, latent_channels=44, kinds=("discrete",), fsq_levels=levels)).eval()
    z = torch.randn(400, 44) * 3
    encoder = PaddedEncoder(model, "discrete")
    codes = model.fsq(z)
    indices = model.fsq.codes_to_indices(codes)
    assert torch.equal(encoder.levels.indices(z), indices)
    assert torch.equal(encoder.levels.codes(indices), codes)


@pytest.mark.slow
def test_torch_export_takes_any_size(tiny):
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens")
    shapes = ({0: batch, 1: tokens},) * 3
    module = PaddedEncoder(tiny, "continuous")
    with torch.no_grad():
        program = torch.export.export(module, padded(clips()[:3]), dynamic_shapes=shapes).module()
        for samples in (clips()[1:3], clips()[3:] * 3):
            for found, expected in zip(program(*padded(samples)), module(*padded(samples)), strict=True):
                assert torch.allclose(found, expected, **EXACT)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_onnx_files_take_any_size(tiny, kind, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    from atoken.adapters.onnx import write_onnx

    differences = write_onnx(tiny, tmp_path, kind=kind)
    assert differences.keys() == {"indices" if kind == "discrete" else "latents", "hidden", "pooled", "patches"}
    encoder, decoder = (onnxruntime.InferenceSession(tmp_path / f"{name}.onnx") for name in ("encoder", "decoder"))
    assert encoder.get_modelmeta().custom_metadata_map["weights"] == tiny.weights_hash
    for samples in (clips(), clips()[2:3]):
        feats, coords, mask = padded(samples)
        values, *_, pooled = encoder.run(None, {"feats": feats.numpy(), "coords": coords.numpy(), "mask": mask.numpy()})
        name = decoder.get_inputs()[0].name
        (patches,) = decoder.run(None, {name: values, "coords": coords.numpy(), "mask": mask.numpy()})
        packed = Packed.cat(samples)
        with torch.no_grad():
            expected = tiny.encode_packed(packed)
            mean = torch.from_numpy(values)[mask]
            if kind == "continuous":
                assert torch.allclose(mean, expected.posterior.mean, atol=1e-4)
            else:
                mean = tiny.fsq.indices_to_codes(mean)
            assert torch.allclose(
                torch.from_numpy(patches)[mask], tiny.decode_packed(packed.with_feats(mean)), atol=1e-4
            )
        assert torch.allclose(torch.from_numpy(pooled), expected.pooled, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "kind"), [((32, 48), "continuous"), ((8, 16, 32), "discrete")])
def test_onnx_files_of_one_size_take_pixels(tiny, size, kind, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    from atoken.adapters.onnx import write_onnx

    write_onnx(tiny, tmp_path, kind=kind, size=size)
    encoder, decoder = (onnxruntime.InferenceSession(tmp_path / f"{name}.onnx") for name in ("encoder", "decoder"))
    x = torch.rand(3, 3, *size) * 2 - 1
    values = encoder.run(None, {"pixels": x.numpy()})[0]
    (pixels,) = decoder.run(None, {decoder.get_inputs()[0].name: values})
    assert pixels.shape == x.shape
    if kind == "continuous":
        with torch.no_grad():
            assert torch.allclose(torch.from_numpy(values), encode(tiny, x).chunk(2, 1)[0], atol=1e-4)
        assert json.loads(encoder.get_modelmeta().custom_metadata_map["value_range"]) == [-1, 1]


def test_pixel_modules_are_the_tokenizer(tiny):
    x = torch.rand(2, 3, 6 * 4, 32, 16) * 2 - 1
    with torch.no_grad():
        latents = PixelEncoder(tiny, "continuous", (24, 32, 16))(x)[0]
        assert torch.allclose(latents, encode(tiny, x).chunk(2, 1)[0], **EXACT)
        assert PixelDecoder(tiny, "continuous", (24, 32, 16))(latents).shape == x.shape


def test_what_cannot_be_exported(tiny):
    with refused("30"):
        PixelEncoder(tiny, "continuous", (30, 32))
    with refused("decoder_cache"):
        PaddedDecoder(AToken(ModelConfig("c", 64, 2, 1, 1, 96, decoder_cache=1)), "continuous", 768)
    with refused("trained for"):
        PaddedEncoder(AToken(PRESETS["nano"]), "discrete")


@pytest.mark.slow
def test_files_that_compute_something_else_are_removed(tiny, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    from atoken.adapters import onnx

    monkeypatch.setattr(onnx, "TOLERANCE", 0.0)
    with refused("latents", "pytorch"):
        onnx.write_onnx(tiny, tmp_path, kind="continuous", size=(16, 16))
    assert not list(tmp_path.iterdir())
