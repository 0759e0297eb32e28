"""The network beside others that compute the same: plain PyTorch, torch.compile of it, and OpenVINO.

All lie in one process and take turns, each turn beside a matrix product, so that a machine that others use, too, is
slow for all alike. What counts are ratios.
"""

from __future__ import annotations

import multiprocessing
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.machine import matmul_peak, seconds_of
from ..nn.block import Block
from ..nn.packed import Packed, dense_coords
from ..pipeline.atoken import AToken
from ..tokenizer.config import PRESETS
from ..tokens.patch import FRAME_FEATURES, PATCH
from ..weights.config import list_models
from ..weights.load import load
from .network import Case, network_flops, random_model

ROUNDS = 9
CASES = (
    Case("tiny", 64, 2),
    Case("nano", 256, 16),
    Case("nano", 1024, 1),
    Case("base", 256, 4),
    Case("so400m", 256, 1),
    Case("so400m", 512, 1),
    Case("so400m", 1024, 1),
)
PLAIN = "plain PyTorch"


@dataclass(frozen=True)
class Rival:
    """One way to compute the encoder or the decoder of one case; medians of ``ROUNDS`` turns."""

    case: Case
    network: str
    """encoder or decoder"""
    name: str
    seconds: float
    share: float
    """Of the fastest bf16 matrix product of the same round."""
    ratio: float
    """How many times as long as ours it took, in the same round."""
    difference: float
    """Root mean square of its output less ours, over that of ours."""

    def to_dict(self) -> dict[str, Any]:
        """All numbers as JSON-ready values."""
        return {**asdict(self.case), **{name: value for name, value in vars(self).items() if name != "case"}}


def run_rivals(presets: Sequence[str], device: str) -> Iterator[Rival]:
    """Measure the cases of ``presets`` in bf16, each in a process of its own. Raises ``ValueError`` where one dies."""
    for case in CASES:
        if case.preset in presets:
            try:
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                    yield from pool.submit(measure_rivals, case, device).result()
            except (BrokenProcessPool, torch.OutOfMemoryError):
                raise ValueError(
                    f"{case.preset} at {case.size} x {case.size} beside its rivals did not finish: most likely there "
                    "is not enough memory for it"
                ) from None


def missing_rivals(device: str) -> list[str]:
    """Which rivals are left out here, each with the reason."""
    reasons = []
    if not device.startswith("cuda"):
        if not any(map(shutil.which, ("c++", "g++", "clang++"))):
            reasons.append("torch.compile (no C++ compiler)")
        if not find_spec("openvino"):
            reasons.append('OpenVINO (pip install "atoken[bench]")')
    return reasons


@torch.inference_mode()
def measure_rivals(case: Case, device: str) -> list[Rival]:
    """Encoder and decoder of one case in this process."""
    config = PRESETS[case.preset]
    trained = case.preset in list_models()
    model = load(case.preset, device=device, dtype=torch.bfloat16) if trained else random_model(config, device)
    side = case.size // PATCH[1]
    coords, generator = dense_coords((1, side, side, 1)), torch.Generator().manual_seed(0)
    results: list[Rival] = []
    for network, channels in (("encoder", FRAME_FEATURES), ("decoder", config.latent_channels)):
        feats = torch.rand(case.batch, side * side, channels, generator=generator).mul_(2).sub_(1)
        packed = Packed.cat([(each, coords) for each in feats]).to(device)
        ours = _ours(model, network, packed)
        x = feats.to(device, torch.bfloat16)
        plain = PlainNetwork(model, network, packed, side * side).eval()
        ways: dict[str, Callable[[], Tensor]] = {"AToken": ours, PLAIN: partial(plain, x)}
        ways |= _others(plain, x, device)
        depth = config.encoder_depth if network == "encoder" else config.decoder_depth
        ends = FRAME_FEATURES + config.latent_channels * (2 if network == "encoder" else 1)
        flops = network_flops(config, [side * side] * case.batch, depth, ends)
        results += _take_turns(case, network, ways, flops, device)
    return results


def _ours(model: AToken, network: str, packed: Packed) -> Callable[[], Tensor]:
    if network == "encoder":
        return lambda: model.encode_packed(packed, pool=False).moments
    return lambda: model.decode_packed(packed, features=FRAME_FEATURES)


def _others(plain: PlainNetwork, x: Tensor, device: str) -> dict[str, Callable[[], Tensor]]:
    """Compilers of the plain network that are there, and have compiled."""
    left_out, found = " ".join(missing_rivals(device)), dict[str, Callable[[], Tensor]]()
    if "torch.compile" not in left_out:
        found["torch.compile"] = partial(torch.compile(plain), x)
    if "OpenVINO" not in left_out and not device.startswith("cuda"):
        found["OpenVINO"] = _openvino(plain, x)
    for call in found.values():
        call()
    return found


def _openvino(plain: PlainNetwork, x: Tensor) -> Callable[[], Tensor]:
    import openvino

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = openvino.convert_model(plain.float(), example_input=x.float())
    plain.bfloat16()
    network = openvino.Core().compile_model(traced, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    pixels = x.float().numpy()
    return lambda: torch.from_numpy(network(pixels)[0])


def _take_turns(
    case: Case, network: str, ways: dict[str, Callable[[], Tensor]], flops: float, device: str
) -> list[Rival]:
    wanted = ways["AToken"]().float()
    size = wanted.square().mean().sqrt()
    differences = {
        name: float((call().float().view(wanted.shape) - wanted).square().mean().sqrt() / size)
        for name, call in ways.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    peaks = []
    for _ in range(ROUNDS):
        peaks.append(matmul_peak(device, torch.bfloat16))
        for name, call in ways.items():
            seconds[name].append(seconds_of(call, device))
    ours = np.array(seconds["AToken"])
    return [
        Rival(
            case=case,
            network=network,
            name=name,
            seconds=float(np.median(times)),
            share=float(np.median(flops / np.array(times) / np.array(peaks))),
            ratio=float(np.median(np.array(times) / ours)),
            difference=differences[name],
        )
        for name, times in seconds.items()
    ]


class PlainNetwork(nn.Module):
    """The encoder or decoder of equal dense samples as one writes it first: batches, nn.Linear, SDPA, no own kernels.

    It has the model's weights and computes what the model does: x [B, n, C] -> [B, n, moments or pixels].
    """

    def __init__(self, model: AToken, network: str, packed: Packed, tokens: int) -> None:
        super().__init__()
        config, encoding = model.config, network == "encoder"
        part = model.encoder if encoding else model.decoder
        layout = packed.layout(config.encoder_tile if encoding else config.decoder_tile, config.head_dim)
        ends = part.input_layer.weight[:, :FRAME_FEATURES] if encoding else part.input_layer.weight
        self.first = _linear(ends, part.input_layer.bias)
        self.blocks = nn.ModuleList(
            PlainBlock(block, config.heads, config.rope) for block in part.blocks if isinstance(block, Block)
        )
        last = model.proj.weight if encoding else model.decoder.out_layer.weight[:FRAME_FEATURES]
        normed = config.latent_norm if encoding else config.output_norm
        self.norm = (model.encoder.post_layernorm if encoding else model.decoder.out_norm) if normed else nn.Identity()
        self.last = _linear(last, None)
        self.register_buffer("position", part.pos_embedder(layout)[:tokens].to(ends.dtype).clone())
        turns = torch.view_as_real(layout.rope[:tokens, 0].clone())  # [n, D/2, 2]
        self.register_buffer("cos", turns[..., 0].clone())
        self.register_buffer("sin", turns[..., 1].clone())

    def forward(self, x: Tensor) -> Tensor:
        """x [B, n, C] -> [B, n, moments or pixels]."""
        x = self.first(x) + self.get_buffer("position")
        for block in self.blocks:
            x = block(x, self.get_buffer("cos"), self.get_buffer("sin"))
        return self.last(self.norm(x))


class PlainBlock(nn.Module):
    """A pre-norm block with the weights of one of ours."""

    def __init__(self, block: Block, heads: int, rope: bool) -> None:
        super().__init__()
        self.heads, self.rope = heads, rope
        self.norm1, self.norm2, self.mlp = block.norm1, block.norm2, block.mlp.mlp
        self.to_qkv, self.to_out = block.attn.to_qkv, block.attn.to_out
        self.q_norm, self.k_norm = block.attn.q_rms_norm, block.attn.k_rms_norm

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x [B, n, W], cos and sin fp32 [n, D/2] -> [B, n, W]."""
        q, k, v = self.to_qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).unbind(2)  # [B, n, H, D] each
        q, k = (self._turn(norm(part), cos, sin).to(v.dtype) for norm, part in ((self.q_norm, q), (self.k_norm, k)))
        heads = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        x = x + self.to_out(heads.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))

    def _turn(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        if not self.rope:
            return x
        even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)  # [B, n, H, D/2]
        cos, sin = cos[:, None], sin[:, None]
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return layer
