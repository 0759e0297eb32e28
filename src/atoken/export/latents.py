"""Latents of pictures of one size in safetensors files: LightningDiT, GAE, and JLT."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from ..tokens.shards import TokenShards
from .samples import check, label_of, mirrored, originals, picture_values

PER_FILE = 10_000
STATISTICS_OF = 10_000
"""Pictures that mean and deviation are taken over."""


def lightningdit(shards: TokenShards, out: Path, per_file: int = PER_FILE) -> int:
    """``latents_rank00_shardSSS.safetensors`` and ``latents_stats.pt``; returns the number of pictures.

    Each file has ``latents`` and ``latents_flip``, fp32 [N, C, H, W], ``labels`` int64 [N], and the metadata
    ``total_size``, ``dtype`` and ``device`` (LightningDiT, extract_features.py). The statistics are {"mean", "std"},
    fp32 [1, C, 1, 1], of evenly spaced unmirrored pictures. Raises ``ValueError`` for samples without label or mirrored
    copy, of several sizes, and that are no continuous pictures.
    """
    numbers = _with_copies(shards, "lightningdit")
    mean, std = statistics(shards, numbers, "lightningdit")
    for place, part in enumerate(_parts(numbers, per_file)):
        tensors = _tensors(shards, part, "lightningdit")
        metadata = {"total_size": str(len(part)), "dtype": "torch.float32", "device": "cpu"}
        name = f"latents_rank00_shard{place:03d}.safetensors"
        _write(out / name, tensors, metadata)
    torch.save({"mean": mean, "std": std}, out / "latents_stats.pt")
    return len(numbers)


def jlt(shards: TokenShards, out: Path, per_file: int = PER_FILE) -> int:
    """As ``lightningdit``, but normalised, float16 with int32 labels, and ``shard_index.json``: [[file, count], ...].

    Raises ``ValueError`` as ``lightningdit`` does.
    """
    numbers = _with_copies(shards, "jlt")
    mean, std = statistics(shards, numbers, "jlt")
    index = []
    for place, part in enumerate(_parts(numbers, per_file)):
        tensors = _tensors(shards, part, "jlt")
        for name in ("latents", "latents_flip"):
            tensors[name] = ((tensors[name] - mean) / std).half()
        tensors["labels"] = tensors["labels"].int()
        index.append([f"latents_rank00_shard{place:03d}.safetensors", len(part)])
        _write(out / str(index[-1][0]), tensors)
    (out / "shard_index.json").write_text(json.dumps(index))
    torch.save({"mean": mean, "std": std}, out / "latents_stats.pt")
    return len(numbers)


def statistics(shards: TokenShards, numbers: Sequence[int], what: str) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel, fp32 [1, C, 1, 1], over at most ``STATISTICS_OF`` evenly spaced pictures."""
    places = np.unique(np.linspace(0, len(numbers) - 1, min(len(numbers), STATISTICS_OF)).round().astype(int))
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for place in places.tolist():
        sample = check(shards[numbers[place]], what, kind="continuous", modality="image")
        values = sample.tokens.values.double()
        count, total, squares = count + len(values), total + values.sum(0), squares + values.square().sum(0)
    mean = total / count
    # the deviation of torch.std: with one degree of freedom less
    std = ((squares - count * mean.square()).clamp(min=0) / max(count - 1, 1)).sqrt()
    if not bool((std > 0).all()):
        raise ValueError(f"{what} divides by the deviation of each channel, and one of these latents is constant")
    return mean.float()[None, :, None, None], std.float()[None, :, None, None]


def _with_copies(shards: TokenShards, what: str) -> list[int]:
    numbers = originals(shards)
    for number in numbers:
        if mirrored(shards, number) is None:
            raise ValueError(
                f"{what} needs every picture mirrored, too, and {shards.key(number)[:200]} is not: tokenize with --flip"
            )
    return numbers


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    path.write_bytes(safetensors.torch.save(tensors, metadata))  # save_file gives them to their owner alone


def _parts(numbers: Sequence[int], size: int) -> list[Sequence[int]]:
    return [numbers[at : at + size] for at in range(0, len(numbers), size)]


def _tensors(shards: TokenShards, numbers: Sequence[int], what: str) -> dict[str, Tensor]:
    first = picture_values(check(shards[numbers[0]], what, kind="continuous", modality="image"), what, None)
    latents = torch.empty(len(numbers), *first.shape)
    flips, labels = torch.empty_like(latents), torch.empty(len(numbers), dtype=torch.int64)
    for place, number in enumerate(numbers):
        copy = mirrored(shards, number)
        assert copy is not None
        for target, each in ((latents, number), (flips, copy)):
            sample = check(shards[each], what, kind="continuous", modality="image")
            target[place] = picture_values(sample, what, first.shape)
        labels[place] = label_of(shards[number], what)
    return {"latents": latents, "latents_flip": flips, "labels": labels}
