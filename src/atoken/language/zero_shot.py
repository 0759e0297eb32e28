"""Zero-shot classification: labels as texts, the nearest one wins."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .towers import TextTower

TEMPLATES = ("{}", "a photo of a {}", "a picture of the {}", "a close-up of a {}", "a {} on a plain background")
"""Prompts whose embeddings are averaged; the paper's are not published."""


def label_embeddings(tower: TextTower, labels: Sequence[str], templates: Sequence[str] = TEMPLATES) -> Tensor:
    """One unit vector a label, the mean over the prompts' unit vectors: fp32 [L, width].

    Raises ``ValueError`` for a template without ``{}`` or no labels.
    """
    if bad := [template for template in templates if "{}" not in template]:
        raise ValueError(f"the template {bad[0]!r} has no {{}} for the label")
    if not labels or not templates:
        raise ValueError("zero-shot classification needs labels and templates, at least one of each")
    prompts = [template.replace("{}", label) for label in labels for template in templates]
    vectors = tower(prompts).unflatten(0, (len(labels), len(templates)))
    return F.normalize(vectors.mean(1), dim=-1)


def probabilities(embeddings: Tensor, labels: Tensor, log_scale: float) -> Tensor:
    """Softmax over labels of ``exp(log_scale) * cos``: embeddings [B, D], labels [L, D] of unit length -> [B, L]."""
    return (embeddings @ labels.t() * torch.tensor(log_scale).exp()).softmax(-1)
