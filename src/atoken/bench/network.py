"""Speed and memory of the presets, beside what plain matrix products reach on the same machine in the same run."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..core.machine import best_seconds, matmul_peak, peak_memory
from ..engine.ranks import own_random_state
from ..pipeline.atoken import AToken
from ..tokenizer.config import PRESETS, ModelConfig
from ..tokens.patch import FRAME_FEATURES
from ..weights.config import list_models
from ..weights.load import load


@dataclass(frozen=True)
class Case:
    """One measurement: ``batch`` square pictures of ``size`` pixels through one preset in bf16."""

    preset: str
    size: int
    batch: int


CASES = (
    Case("tiny", 64, 4),
    Case("nano", 256, 16),
    Case("nano", 1024, 1),
    Case("base", 256, 4),
    Case("base", 512, 1),
    Case("so400m", 256, 1),
    Case("so400m", 512, 1),
)
CUDA_CASES = (
    Case("nano", 256, 256),
    Case("nano", 1024, 16),
    Case("base", 256, 128),
    Case("base", 512, 32),
    Case("so400m", 256, 64),
    Case("so400m", 512, 16),
    Case("so400m", 1024, 4),
)
"""Batches that keep a large card busy."""


@dataclass(frozen=True)
class Result:
    """What one case took; times are the best of ``REPEATS`` through ``encode`` and ``decode``, pictures in memory."""

    case: Case
    trained: bool
    """Whether the weights are shipped ones, or random."""
    tokens: int
    encode_seconds: float
    decode_seconds: float
    encode_flops: float
    """Floating-point operations of the network alone, two for each multiply-add."""
    decode_flops: float
    matmul_flops: float
    """Operations a second of the fastest square bf16 matrix product, measured before and after."""
    peak_bytes: int | None
    """Most memory that the process (on CUDA: the allocator) held; None where the system does not tell."""

    @property
    def share(self) -> float:
        """Share of the matrix-product peak over encoding and decoding together."""
        total = self.encode_flops + self.decode_flops
        return total / (self.encode_seconds + self.decode_seconds) / self.matmul_flops

    def to_dict(self) -> dict[str, Any]:
        """All numbers as JSON-ready values."""
        return {**asdict(self.case), **{k: v for k, v in vars(self).items() if k != "case"}, "share": self.share}


def run_bench(presets: Sequence[str], device: str) -> Iterator[Result]:
    """Measure the cases of ``presets``, each in a process of its own so that its memory is its own.

    Raises ``ValueError`` where the process of a case ended early, as it does when memory runs out.
    """
    for case in CUDA_CASES if device.startswith("cuda") else CASES:
        if case.preset in presets:
            try:
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                    yield pool.submit(measure, case, device).result()
            except (BrokenProcessPool, torch.OutOfMemoryError):
                where = f"{case.preset} at {case.size} x {case.size}, {case.batch} at once"
                raise ValueError(f"{where} did not finish: most likely there is not enough memory for it") from None


def measure(case: Case, device: str) -> Result:
    """Run one case in this process."""
    config, trained = PRESETS[case.preset], case.preset in list_models()
    model = load(case.preset, device=device, dtype=torch.bfloat16) if trained else random_model(config, device)
    pictures = list(np.random.default_rng(0).integers(0, 256, (case.batch, case.size, case.size, 3), np.uint8))
    tokens = model.encode(pictures)
    peak = matmul_peak(device, torch.bfloat16)
    encode = best_seconds(lambda: model.encode(pictures), device)
    decode = best_seconds(lambda: model.decode(tokens), device)
    lengths = [len(item) for item in tokens]
    return Result(
        case=case,
        trained=trained,
        tokens=sum(lengths),
        encode_seconds=encode,
        decode_seconds=decode,
        encode_flops=network_flops(config, lengths, config.encoder_depth, FRAME_FEATURES + 2 * config.latent_channels),
        decode_flops=network_flops(config, lengths, config.decoder_depth, FRAME_FEATURES + config.latent_channels),
        matmul_flops=max(peak, matmul_peak(device, torch.bfloat16)),
        peak_bytes=peak_memory(device),
    )


def random_model(config: ModelConfig, device: str) -> AToken:
    """A bf16 model with random weights, made without an fp32 copy on the way."""
    with torch.device("meta"):
        model = AToken(config).to(torch.bfloat16)
    model = model.to_empty(device=device).eval()
    with own_random_state(device):
        torch.manual_seed(0)
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if name == "bias":
                    nn.init.zeros_(parameter)
                elif isinstance(module, nn.Linear | nn.Embedding) or name == "probe":
                    nn.init.normal_(parameter, std=0.02)
                else:
                    nn.init.ones_(parameter)
    return model


def network_flops(config: ModelConfig, lengths: list[int], depth: int, ends: int) -> float:
    """Multiply-adds of the linear layers and of attention, twice; ``ends`` are the channels in and out of the width."""
    width, tokens = config.width, sum(lengths)
    linear = 2 * tokens * (4 * width**2 + 2 * width * config.mlp_width)
    attention = 4 * width * sum(length**2 for length in lengths)
    return float(depth * (linear + attention) + 2 * tokens * width * ends)
