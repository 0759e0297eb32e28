"""Encoder and decoder as ONNX files, each compared with PyTorch by onnxruntime after it is written."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

try:
    import onnx
    import onnxruntime
except ImportError:
    raise ImportError("ONNX needs: pip install 'atoken[onnx]'") from None

from ..core.files import atomic_write
from ..nn.packed import Packed, dense_coords
from ..tokenizer.net import TokenizerNet
from ..tokens.patch import PATCH_FEATURES
from .padded import PaddedDecoder, PaddedEncoder, PixelDecoder, PixelEncoder, grid_of

FILES = ("encoder.onnx", "decoder.onnx")
OPSET = 18
LARGEST = 2**31 - 2**20
"""Bytes of weights that one ONNX file holds."""
TOLERANCE = 1e-4
"""Largest difference between onnxruntime and PyTorch, in units of the root mean square where that is above 1."""
EDGES = 0.01
"""Largest share of other indices: of numbers at the edge of two levels."""


def write_onnx(
    net: TokenizerNet, out: Path, *, kind: str | None = None, size: tuple[int, ...] | None = None
) -> dict[str, float]:
    """Write ``encoder.onnx`` and ``decoder.onnx``, and return how far each is from PyTorch (see ``TOLERANCE``).

    Without ``size`` they take padded batches of any size with a mask (``padded.PaddedEncoder``, ``PaddedDecoder``), for
    pictures, clips and voxels; with (H, W) or (T, H, W) pixels of that size (``PixelEncoder``, ``PixelDecoder``), any
    number at a time. The metadata say model, weights, kind, levels and the statistics of latents. Computed in fp32.

    Raises ``ValueError`` for a size that is not made of whole patches, weights that are too many for a file, and a file
    that does not compute what PyTorch does (both are removed then).
    """
    kind = kind or net.config.kinds[0]
    net = net.eval() if net.compute_dtype == "float32" and net.device.type == "cpu" else deepcopy(net).float().cpu()
    encoder: Any = PaddedEncoder(net, kind) if size is None else PixelEncoder(net, kind, size)
    decoder: Any = PaddedDecoder(net, kind, PATCH_FEATURES) if size is None else PixelDecoder(net, kind, size)
    values = "indices" if kind == "discrete" else "latents"
    places = [] if size is not None else ["coords", "mask"]
    inputs = _padded([(1, 3, 2), (2, 2, 3)]) if size is None else (_noise(2, *_pixels(size)),)
    with torch.no_grad():
        latents = encoder(*inputs)[0]
    _write(out / FILES[0], net, kind, encoder, inputs, ["pixels"] if size else ["feats", *places], encoder.outputs)
    names = [values, *places]
    _write(out / FILES[1], net, kind, decoder, (latents, *inputs[1:]), names, ["pixels" if size else "patches"])
    try:
        if size is not None:
            return _compare_pixels(net, out, encoder, decoder, _noise(3, *_pixels(size)))
        return _compare(net, out, kind, [(1, 5, 4), (net.config.encoder_tile + 2, 2, 3), (1, 1, 1)])
    except ValueError:
        for name in FILES:
            (out / name).unlink()
        raise


def _write(
    path: Path,
    net: TokenizerNet,
    kind: str,
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    input_names: list[str],
    output_names: list[str],
) -> None:
    part = net.encoder if path.name == FILES[0] else net.decoder
    size = sum(parameter.numel() * 4 for parameter in part.parameters())
    if size > LARGEST:
        raise ValueError(f"{path} would hold {size / 1e9:.1f} GB of weights, and one ONNX file holds at most 2 GB")
    axes = {name: {0: "batch"} | ({} if len(inputs) == 1 else {1: "tokens"}) for name in (*input_names, *output_names)}
    if "pooled" in axes:
        axes["pooled"] = {0: "batch"}
    with atomic_write(path) as temporary:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # that this exporter is old: the new one takes minutes for its second
            torch.onnx.export(
                module,
                inputs,
                temporary,
                dynamo=False,
                opset_version=OPSET,
                input_names=input_names,
                output_names=output_names,
                dynamic_axes=axes,
            )
        model = onnx.load(temporary)
        onnx.helper.set_model_props(model, _facts(net, kind))
        onnx.save(model, temporary)


def _facts(net: TokenizerNet, kind: str) -> dict[str, str]:
    stats = net.latent_stats
    facts = {"model": net.config.name, "weights": net.weights_hash, "kind": kind, "value_range": "[-1, 1]"}
    if kind == "discrete":
        facts["fsq"] = json.dumps(net.config.fsq_levels)
    elif stats is not None:
        facts |= {"latents_mean": json.dumps(stats.mean), "latents_std": json.dumps(stats.std)}
    return facts


def _pixels(size: tuple[int, ...]) -> tuple[int, ...]:
    grid_of(size)
    return (3, *size)


def _noise(*shape: int) -> Tensor:
    """Smooth pixels in [-1, 1], so that latents are of an ordinary size."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.rand(shape, generator=generator).mul(2).sub(1).cumsum(-1).mul(0.3).sin()


def _padded(grids: Sequence[tuple[int, int, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Feats, coords and mask of a batch of clips of so many steps, rows and columns."""
    coords = [dense_coords((*grid, 1)).long() for grid in grids]
    most = max(map(len, coords))
    mask = torch.stack([torch.arange(most) < len(each) for each in coords])
    feats = _noise(len(grids), most, PATCH_FEATURES) * mask[..., None]
    return feats, torch.nn.utils.rnn.pad_sequence(coords, batch_first=True), mask


def _compare(net: TokenizerNet, out: Path, kind: str, grids: Sequence[tuple[int, int, int]]) -> dict[str, float]:
    """With the network over packed batches, not with what was exported."""
    feats, coords, mask = _padded(grids)
    samples = [(f[m], c[m].int()) for f, c, m in zip(feats, coords, mask, strict=True)]
    packed = Packed.cat(samples)
    with torch.no_grad():
        encoded = net.encode_packed(packed)
        mean = encoded.posterior.mean
        values = net.fsq.codes_to_indices(net.fsq(mean)) if kind == "discrete" else mean
        patches = net.decode_packed(packed.with_feats(net.fsq(mean) if kind == "discrete" else mean))
    found = _run(out / FILES[0], {"feats": feats, "coords": coords, "mask": mask})
    name = "indices" if kind == "discrete" else "latents"
    padded = torch.zeros(*mask.shape, values.shape[1], dtype=values.dtype)
    padded[mask] = values
    shown = _run(out / FILES[1], {name: padded, "coords": coords, "mask": mask})["patches"]
    assert encoded.pooled is not None
    pairs = {name: (found[name][mask], values), "hidden": (found["hidden"][mask], encoded.hidden)}
    return _checked(out, {**pairs, "pooled": (found["pooled"], encoded.pooled), "patches": (shown[mask], patches)})


def _compare_pixels(
    net: TokenizerNet, out: Path, encoder: PixelEncoder, decoder: PixelDecoder, pixels: Tensor
) -> dict[str, float]:
    from . import dense

    kind = encoder.encoder.kind
    with torch.no_grad():
        moments = dense.encode(net, pixels)
        codes = dense.codes(net, moments) if kind == "discrete" else (moments.chunk(2, 1)[0],)
        expected = dense.decode(net, codes[0])
    name = "indices" if kind == "discrete" else "latents"
    found = _run(out / FILES[0], {"pixels": pixels})[name]
    shown = _run(out / FILES[1], {name: codes[-1]})["pixels"]
    return _checked(out, {name: (found, codes[-1]), "pixels": (shown, expected)})


def _run(path: Path, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = {each.name for each in session.get_inputs()}
    found = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items() if name in wanted})
    return {each.name: torch.from_numpy(array) for each, array in zip(session.get_outputs(), found, strict=True)}


def _checked(out: Path, pairs: dict[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
    differences = {}
    for name, (found, expected) in pairs.items():
        if expected.is_floating_point():
            unit = max(1.0, float(expected.square().mean().sqrt()))
            differences[name] = float((found - expected).abs().max()) / unit
        else:
            differences[name] = float((found != expected).float().mean())
        if not differences[name] <= (TOLERANCE if expected.is_floating_point() else EDGES):
            raise ValueError(
                f"{out}: onnxruntime {onnxruntime.__version__} computes other {name} than PyTorch, by "
                f"{differences[name]:.2g}"
            )
    return differences
