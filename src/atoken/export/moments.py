"""Mean and variance of each posterior, and what is computed of them: MAR, TokenBridge, REPA, SR-DiT, RAE."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..tokens.samples import LOGVAR, TokenSample
from ..tokens.shards import TokenShards
from .samples import check, contiguous_labels, facts_of, label_of, mirrored, originals, picture_values

Shape = Sequence[int] | None
"""[C, h, w] that values must have; None for those of the first sample."""


def mar(shards: TokenShards, out: Path) -> int:
    """``CCCCCC/NNNNNNNN.npz`` for each picture of class C, and ``samples.jsonl``; returns their number.

    Each has ``moments`` and ``moments_flip``, fp32 [2C, h, w] = (mean, log-variance), as MAR's and TokenBridge's
    main_cache.py write them. They number classes by the order of the folders. Raises ``ValueError`` for samples without
    log-variances, labels or mirrored copies, of several sizes, and labels with gaps.
    """
    numbers = originals(shards)
    labels = contiguous_labels(shards, numbers, "mar")
    for label in set(labels):
        (out / f"{label:06d}").mkdir()
    shape: Shape = None
    with (out / "samples.jsonl").open("w") as file:
        for place, (number, label) in enumerate(zip(numbers, labels, strict=True)):
            copy = mirrored(shards, number)
            if copy is None:
                raise ValueError(
                    f"mar needs every picture mirrored, too, and {shards.key(number)[:200]} is not: tokenize with "
                    "--flip"
                )
            moments = []
            for each in (number, copy):
                mean, logvar = _moments(shards[each], "mar", shape)
                shape = mean.shape
                moments.append(torch.cat([mean, logvar]).numpy())
            name = f"{label:06d}/{place:08d}.npz"
            np.savez(out / name, moments=moments[0], moments_flip=moments[1])
            file.write(json.dumps({"file": name, **facts_of(shards[number])}) + "\n")
    return len(numbers)


def repa(shards: TokenShards, out: Path) -> int:
    """``vae-sd/NNNNN/img-mean-std-NNNNNNNN.npy``, fp32 [2C, h, w] = (mean, deviation), ``vae-sd/dataset.json`` and
    ``samples.jsonl``; returns their number.

    REPA and SRA also read the pictures, ``images/NNNNN/imgNNNNNNNN.png``, in the same order, which shards do not have.
    Raises ``ValueError`` for samples without log-variances or labels, and of several sizes.
    """

    def values(sample: TokenSample, shape: Shape) -> Tensor:
        mean, logvar = _moments(sample, "repa", shape)
        return torch.cat([mean, (0.5 * logvar).exp()])

    return _numbered(shards, out, "vae-sd", "img-mean-std", "repa", values)


def sr_dit(shards: TokenShards, out: Path) -> int:
    """``vae-in/NNNNN/img-latents-NNNNNNNN.npy``, fp32 [C, h, w], ``vae-in/dataset.json`` and ``samples.jsonl``.

    The latents are those of the shards; the pictures are as for ``repa``. Returns their number, raises as ``repa``.
    """

    def values(sample: TokenSample, shape: Shape) -> Tensor:
        return picture_values(check(sample, "sr-dit", kind="continuous", modality="image"), "sr-dit", shape)

    return _numbered(shards, out, "vae-in", "img-latents", "sr-dit", values)


def rae(shards: TokenShards, out: Path) -> int:
    """``stat.pt``: {"mean", "var"} fp32 [C, h, w] of each place over all pictures but mirrored ones.

    RAE encodes on the fly and reads this alone. Returns the number of pictures. Raises ``ValueError`` for pictures of
    several sizes, and fewer than two.
    """
    numbers = originals(shards)
    if len(numbers) < 2:
        raise ValueError("rae needs the variance of two pictures or more, and there is one")
    total = squares = torch.zeros((), dtype=torch.float64)
    shape: Shape = None
    for number in numbers:
        sample = check(shards[number], "rae", kind="continuous", modality="image")
        values = picture_values(sample, "rae", shape).double()
        shape = list(values.shape)
        total, squares = total + values, squares + values.square()
    mean = total / len(numbers)
    variance = (squares / len(numbers) - mean.square()).clamp(min=0)
    torch.save({"mean": mean.float(), "var": variance.float()}, out / "stat.pt")
    return len(numbers)


Values = Callable[[TokenSample, Shape], Tensor]


def _numbered(shards: TokenShards, out: Path, folder: str, stem: str, what: str, values: Values) -> int:
    numbers, labels = originals(shards), []
    shape: Shape = None
    with (out / "samples.jsonl").open("w") as file:
        for place, sample in enumerate(_samples(shards, numbers)):
            name = f"{place:08d}"[:5] + f"/{stem}-{place:08d}.npy"
            (out / folder / name).parent.mkdir(parents=True, exist_ok=True)
            found = values(sample, shape)
            channels = sample.tokens.values.shape[1]
            shape = [channels, *found.shape[1:]]
            np.save(out / folder / name, found.numpy())
            labels.append([name, label_of(sample, what)])
            file.write(json.dumps({"file": f"{folder}/{name}", **facts_of(sample)}) + "\n")
    (out / folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return len(numbers)


def _samples(shards: TokenShards, numbers: list[int]) -> Iterator[TokenSample]:
    return (shards[number] for number in numbers)


def _moments(sample: TokenSample, what: str, shape: Shape) -> tuple[Tensor, Tensor]:
    """Mean and log-variance, fp32 [C, h, w] each. Raises ``ValueError``."""
    check(sample, what, kind="continuous", modality="image")
    logvar = sample.extras.get(LOGVAR)
    if logvar is None or logvar.shape != sample.tokens.values.shape:
        raise ValueError(
            f"{what} reads mean and variance of each posterior, and sample {sample.key[:200]} has the mean alone: "
            "tokenize with --moments"
        )
    mean = picture_values(sample, what, shape)
    return mean, logvar.float().T.reshape(mean.shape)
