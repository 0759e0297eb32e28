"""Zero-shot classification with prompt ensembles, from embeddings alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .retrieval import CHUNK, check_finite, share_within


def class_vectors(
    embed: Callable[[list[str]], Tensor], names: Sequence[str], templates: Sequence[str] = ("a photo of a {}.",)
) -> Tensor:
    """One unit vector [K, W] for each class: the mean over the prompts that ``templates`` make of its name.

    ``embed`` turns prompts into unit vectors [P, W]. Raises ``ValueError`` for a template without ``{}``.
    """
    if bad := [template for template in templates if "{}" not in template]:
        raise ValueError(f"the prompt {bad[0]!r} has no {{}} for the name of the class")
    vectors = [embed([template.format(name) for template in templates]).mean(0) for name in names]
    return F.normalize(torch.stack(vectors), dim=1)


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
