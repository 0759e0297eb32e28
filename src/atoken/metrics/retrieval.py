"""Retrieval between images or videos and texts, in both directions, from their embeddings alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 1024
"""Queries that are compared at once."""


@dataclass(frozen=True)
class Recall:
    """Share of queries, 0 ... 1, with a right answer among the first k, for each k."""

    from_text: dict[int, float]
    """Text to image or video: the one source of a caption is looked for."""
    to_text: dict[int, float]
    """Image or video to text: any of the source's captions counts."""


def retrieval_recall(sources: Tensor, texts: Tensor, owner: Tensor, ks: Sequence[int] = (1, 5, 10)) -> Recall:
    """Recall of retrieval by the inner product of unit vectors.

    ``sources`` [S, W] are images or videos, ``texts`` [T, W] their captions, ``owner`` int [T] the index of each
    caption's source; a source may have several captions and must have one. Ties count against the query. Raises
    ``ValueError`` where the shapes do not fit, a source has no caption, or a number is not finite.
    """
    if len(owner) != len(texts) or sources.shape[1:] != texts.shape[1:] or sources.ndim != 2:
        raise ValueError(
            f"retrieval needs sources [S, W], texts [T, W] and owner [T], not {list(sources.shape)}, "
            f"{list(texts.shape)} and {list(owner.shape)}"
        )
    if not torch.equal(owner.unique(), torch.arange(len(sources), device=owner.device)):
        raise ValueError("every source needs at least one caption, and every caption one of the sources")
    check_finite(sources, texts)
    text_ranks, source_ranks = [], []
    for start in range(0, len(texts), CHUNK):
        scores, own = texts[start : start + CHUNK] @ sources.T, owner[start : start + CHUNK, None]
        text_ranks.append((scores >= scores.gather(1, own)).sum(1) - 1)
    for start in range(0, len(sources), CHUNK):
        scores = sources[start : start + CHUNK] @ texts.T  # [s, T]
        own = owner[None] == torch.arange(start, start + len(scores), device=owner.device)[:, None]
        best = scores.masked_fill(~own, -torch.inf).amax(1, keepdim=True)
        source_ranks.append(((scores >= best) & ~own).sum(1))
    return Recall(share_within(torch.cat(text_ranks), ks), share_within(torch.cat(source_ranks), ks))


def check_finite(*vectors: Tensor) -> None:
    """Raise ``ValueError`` for NaN or infinity, which compare as if they were right answers."""
    if not all(bool(torch.isfinite(part).all()) for part in vectors):
        raise ValueError("there are NaN or infinite embeddings, so nothing can be ranked by them")


def share_within(ranks: Tensor, ks: Sequence[int]) -> dict[int, float]:
    """Share of ranks (0 is the best) among the first k, for each k."""
    return {k: float((ranks < k).double().mean()) for k in ks}
