"""What formats ask of samples: one kind, one size, labels, mirrored copies. Each refusal names the sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.text import shortened
from ..tokens.header import TokenHeader
from ..tokens.samples import MIRRORED, TokenSample
from ..tokens.shards import TokenShards
from ..tokens.tokens import Tokens

VALUES = tuple(map(np.dtype, ("float16", "float32", "float64", "uint16")))
"""What latents and codes are stored as."""


def originals(shards: TokenShards) -> list[int]:
    """Numbers of the samples that are not mirrored copies. Raises ``ValueError`` where there are none."""
    numbers = [number for number in range(len(shards)) if not shards.key(number).endswith(MIRRORED)]
    if not numbers:
        raise ValueError("there are mirrored copies alone: give the shards of their originals, too")
    return numbers


def mirrored(shards: TokenShards, number: int) -> int | None:
    """Number of the mirrored copy of a sample, None where there is none."""
    return shards.numbers.get(shards.key(number) + MIRRORED)


def check(sample: TokenSample, what: str, *, kind: str | None = None, modality: str | None = None) -> TokenSample:
    """The sample. Raises ``ValueError`` where it has another kind or modality than the format ``what`` holds."""
    tokens = sample.tokens
    for wanted, found in ((kind, tokens.kind), (modality, tokens.modality)):
        if wanted is not None and wanted != found:
            raise ValueError(f"{what} holds {wanted} tokens, and sample {shortened(sample.key)} is {found}")
    return sample


def label_of(sample: TokenSample, what: str) -> int:
    """The label. Raises ``ValueError`` where there is none."""
    if sample.label is None:
        raise ValueError(
            f"{what} needs a label with every sample, and {shortened(sample.key)} has none: tokenize with "
            "--labels folders, or with .cls files"
        )
    return sample.label


def facts_of(sample: TokenSample) -> dict[str, Any]:
    """What a sample is besides its numbers, JSON-ready: key, label, captions, the header of its tokens, and times.

    Further tensors (embeddings) are left out.
    """
    times = sample.tokens.times
    return {
        "key": sample.key,
        "label": sample.label,
        "captions": list(sample.captions),
        "header": sample.tokens.to_metadata(),
        "times": None if times is None else times.tolist(),
    }


def sample_of(facts: Mapping[str, Any], values: np.ndarray, coords: np.ndarray) -> TokenSample:
    """The inverse of ``facts_of``, with values and coords as they were stored.

    Raises ``ValueError`` for facts that are not complete or contradict the numbers, and for arrays of other kinds.
    """
    if values.dtype not in VALUES or coords.dtype.kind not in "iu" or coords.ndim != 2:
        raise ValueError(
            f"values are {values.dtype} and coords {coords.dtype} of {coords.ndim} axes, not latents or codes and a "
            "matrix of integers"
        )
    try:
        times = facts["times"]
        header = TokenHeader.from_metadata(
            facts["header"], None if times is None else torch.tensor(times, dtype=torch.float64)
        )
        key, label, captions = facts["key"], facts["label"], facts["captions"]
    except (AttributeError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"the facts of a sample are not complete ({shortened(error)})") from None
    if not isinstance(captions, list):
        raise ValueError(f"the captions are {type(captions).__name__}, not a list of texts")
    places = torch.from_numpy(coords.astype(np.int32))
    tokens = Tokens(**vars(header), values=torch.from_numpy(np.ascontiguousarray(values)), coords=places)
    return TokenSample(key=key, tokens=tokens, label=label, captions=tuple(captions))


def contiguous_labels(shards: TokenShards, numbers: Sequence[int], what: str) -> list[int]:
    """Labels of samples. Raises ``ValueError`` unless they are 0 ... K - 1, each at least once."""
    labels = [label_of(shards[number], what) for number in numbers]
    missing = sorted(set(range(max(labels) + 1)) - set(labels))
    if missing or min(labels) < 0:
        gap = min(labels) if min(labels) < 0 else missing[0]
        raise ValueError(
            f"{what} numbers classes by the order of their folders, so that labels must be 0 ... K - 1, and {gap} is "
            f"{'among them' if min(labels) < 0 else 'not among them'}"
        )
    return labels


def picture_values(sample: TokenSample, what: str, like: Sequence[int] | None) -> Tensor:
    """Values [C, H, W] of a square picture; ``like`` is the shape that it must have.

    Raises ``ValueError`` for another shape.
    """
    _, rows, columns, _ = sample.tokens.grid
    values = sample.tokens.values
    shape = [values.shape[1], rows, columns]
    if like is not None and shape != list(like):
        raise ValueError(
            f"{what} holds pictures of one size, and sample {shortened(sample.key)} has {shape} after {list(like)}: "
            "tokenize with --size"
        )
    if rows != columns:
        raise ValueError(
            f"{what} holds square pictures, and sample {shortened(sample.key)} has {rows} x {columns} patches: "
            "tokenize with --size"
        )
    if values.dtype == torch.uint16:
        return torch.from_numpy(values.numpy().astype(np.int64)).T.reshape(shape)
    return values.float().T.reshape(shape)
