"""Retrieval between pictures (or videos, or assets) and texts, in both directions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

KS = (1, 5, 10)


def recalls(images: Tensor, texts: Tensor, owner: Tensor, ks: Sequence[int] = KS) -> dict[str, float]:
    """R@k of unit vectors images [B, D] and texts [T, D], of which text i belongs to image ``owner[i]`` int64 [T].

    ``text_to_image_R@k`` is the share of texts whose image is among the k nearest, ``image_to_text_R@k`` the share of
    images with one of their texts among the k nearest. Ties count against the model. Images without a text are only
    distractors. Raises ``ValueError`` for owners that do not fit.
    """
    if owner.shape != texts.shape[:1] or not len(owner) or int(owner.min()) < 0 or int(owner.max()) >= len(images):
        raise ValueError(f"{len(texts)} texts need one owner each, among {len(images)} images")
    scores = images @ texts.t()  # [B, T]
    columns = torch.arange(len(texts))
    own = scores[owner, columns]  # [T]
    text_rank = (scores >= own).sum(0) - 1  # [T]: other images that are at least as near
    mine = owner[None] == torch.arange(len(images))[:, None]  # [B, T]
    best = scores.masked_fill(~mine, -torch.inf).amax(1, keepdim=True)
    image_rank = ((scores >= best) & ~mine).sum(1)[mine.any(1)]
    return {f"text_to_image_R@{k}": float((text_rank < k).float().mean()) for k in ks} | {
        f"image_to_text_R@{k}": float((image_rank < k).float().mean()) for k in ks
    }
