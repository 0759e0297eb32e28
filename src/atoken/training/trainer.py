"""The training loop, top to bottom."""

from __future__ import annotations

import copy
import json
import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config import FRAME_FEATURES
from ..evaluation.psnr import centre_crop, psnr
from ..files import atomic_write
from ..media.image import IMAGE_SUFFIXES, read_image
from ..model.tokenizer import AToken
from ..objectives.kl import kl
from ..objectives.l1 import l1
from ..objectives.log_mse import log_mse
from ..tokens import Packed
from .config import TrainConfig
from .data import Crops
from .linear_start import linear_start
from .optimizer import build_optimizers, rate, update_average

log = logging.getLogger(__name__)


def train(config: TrainConfig, out: Path, device: str = "cpu", stop_after: int | None = None) -> AToken:
    """Train to the end of ``config``, continuing from ``out/checkpoint.pt`` where there is one.

    Writes ``log.jsonl``, checkpoints, and at the end the averaged model in bf16 under ``out/model``; returns that
    model. ``stop_after`` ends this call (with a checkpoint) before that step. A continued run computes exactly what
    an uninterrupted one does.
    """
    data = Crops(config.data, config.tokens_per_step, config.seed)
    torch.manual_seed(config.seed)
    model = AToken(config.model_config).to(device).train()
    if config.linear_start:
        unseen = range(config.steps, config.steps + 32)  # batches that the run itself does not draw
        linear_start(model, torch.cat([data.batch(step).feats for step in unseen]).to(device))
    average = copy.deepcopy(model)
    optimizers = build_optimizers(model, config.optimizer)
    start = _resume(out / "checkpoint.pt", config, model, average, optimizers)
    photographs = _photographs(config.eval_path)
    parameters, averaged = list(model.parameters()), list(average.parameters())
    clock = time.perf_counter()

    for step in range(start, min(config.steps, stop_after or config.steps)):
        share = rate(step, config.steps, config.optimizer)
        for name, optimizer in optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = share * getattr(config.optimizer, f"{name}_lr")

        losses = reconstruction_losses(model, data.batch(step), config, step)
        total = sum(getattr(config.loss, name) * value for name, value in losses.items())
        assert isinstance(total, Tensor)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.optimizer.clip)
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        update_average(averaged, parameters, config.optimizer.ema, step)

        done = step + 1
        if done % config.log_every == 0 or done == config.steps:
            now = time.perf_counter()
            speed = config.log_every * config.tokens_per_step / (now - clock)
            record = {name: float(value.detach()) for name, value in losses.items()}
            _log(out, {"step": done, "rate": share, **record, "norm": float(norm), "tokens_per_s": round(speed)})
            clock = now
        if done % config.checkpoint_every == 0 or done == config.steps or done == stop_after:
            _save(out / "checkpoint.pt", config, model, average, optimizers, done)
            if photographs:
                scores = {"psnr": evaluate(model, photographs), "psnr_ema": evaluate(average, photographs)}
                _log(out, {"step": done, **scores})
            clock = time.perf_counter()
    if stop_after is None or stop_after >= config.steps:
        copy.deepcopy(average).to(torch.bfloat16).save_pretrained(out / "model")
    return average.eval()


def reconstruction_losses(model: AToken, batch: Packed, config: TrainConfig, step: int) -> dict[str, Tensor]:
    """Unweighted terms of the reconstruction objective for a batch of images [N, 768]."""
    batch = batch.to(model.device)
    generator = torch.Generator(model.device).manual_seed(config.seed * 1_000_003 + step)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=config.autocast):
        posterior = model.encode_packed(batch, pool=False).posterior
        latents = Packed(posterior.sample(generator), batch.coords)
        patches = model.decode_packed(latents, features=FRAME_FEATURES).float()
    return {
        "l1": l1(patches, batch.feats),
        "log_mse": log_mse(patches, batch.feats, batch.coords[:, 0].long()),
        "kl": kl(posterior),
    }


def evaluate(model: AToken, photographs: list[np.ndarray]) -> float:
    """Mean PSNR in dB of the reconstructed photographs."""
    was_training = model.training
    model.eval()
    pictures = model.decode(model.encode(photographs, token_budget=2048), token_budget=2048)
    model.train(was_training)
    return float(np.mean([psnr(a, b) for a, b in zip(pictures, photographs, strict=True)]))


def _photographs(folder: str | None) -> list[np.ndarray]:
    if folder is None:
        return []
    paths = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise FileNotFoundError(f"no photographs in {folder}")
    return [centre_crop(read_image(path)) for path in paths]


def _resume(path: Path, config: TrainConfig, model: AToken, average: AToken, optimizers: dict[str, Any]) -> int:
    if not path.is_file():
        return 0
    state = torch.load(path, map_location=model.device, weights_only=True)
    if state["config"]["model"] != config.model:
        raise ValueError(f"{path} is a checkpoint of {state['config']['model']!r}, not of {config.model!r}")
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    for name, optimizer in optimizers.items():
        optimizer.load_state_dict(state["optimizers"][name])
    return int(state["step"])


def _save(
    path: Path, config: TrainConfig, model: AToken, average: AToken, optimizers: dict[str, Any], step: int
) -> None:
    state = {
        "step": step,
        "config": asdict(config),
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizers": {name: optimizer.state_dict() for name, optimizer in optimizers.items()},
    }
    with atomic_write(path) as temporary:
        torch.save(state, temporary)


def _log(out: Path, record: dict[str, float]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    log.info("  ".join(f"{key} {value:.5g}" for key, value in record.items()))
    with (out / "log.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")
