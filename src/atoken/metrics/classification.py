"""Accuracy of zero-shot classification, from embeddings alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .retrieval import CHUNK, check_finite, share_within


def topk_accuracy(sources: Tensor, classes: Tensor, labels: Tensor, ks: Sequence[int] = (1, 5)) -> dict[int, float]:
    """Share of ``sources`` [S, W] whose class ``labels`` int [S] is among the k nearest ``classes`` [K, W].

    Ties count against. Raises ``ValueError`` for labels that are no class, and numbers that are not finite.
    """
    if len(labels) != len(sources) or not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
        raise ValueError(f"labels must be one of 0 ... {len(classes) - 1} for each of the {len(sources)} sources")
    check_finite(sources, classes)
    ranks = []
    for start in range(0, len(sources), CHUNK):
        scores, own = sources[start : start + CHUNK] @ classes.T, labels[start : start + CHUNK, None]
        ranks.append((scores >= scores.gather(1, own)).sum(1) - 1)
    return share_within(torch.cat(ranks), ks)
