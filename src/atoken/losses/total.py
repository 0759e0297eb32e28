"""How the terms add up (paper section 3.3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Weights:
    """``reconstruction * (l1 + lpips + gram + clip + ...) + semantic * semantic term + kl * kl + render * renders``.

    The defaults are the paper's. A term that a step does not have counts nothing.
    """

    reconstruction: float = 0.2
    """Common factor of ``RECONSTRUCTION``."""
    semantic: float = 1.0
    kl: float = 1e-8
    l1: float = 1.0
    lpips: float = 10.0
    gram: float = 1e3
    clip: float = 1.0
    log_mse: float = 0.0
    """Not the paper's: for small models that are judged by PSNR. Of patches, and of the renderings in ``3d-gaussians``,
    where ``render`` is its factor."""
    render: float = 1.0
    """Common factor of ``RENDERS``, which bring the weights of losses/render.py."""
    gan: float = 0.0
    """Only in the ablation."""


RECONSTRUCTION = ("l1", "lpips", "gram", "clip", "log_mse", "gan")
RENDERS = ("render_l1", "render_structure", "render_perceptual", "render_log_mse")
TERMS = (*RECONSTRUCTION, *RENDERS, "semantic", "kl")


def weighted(terms: Mapping[str, Tensor], weights: Weights) -> dict[str, Tensor]:
    """Each of the unweighted scalar ``terms`` times its weight; the objective is their sum, and the log shows each.

    Raises ``ValueError`` for a term that is none of ``TERMS``.
    """
    if unknown := [name for name in terms if name not in TERMS]:
        raise ValueError(f"no weight for the term {unknown[0]!r}; the terms are {', '.join(TERMS)}")
    return {name: term * factor(name, weights) for name, term in terms.items()}


def factor(name: str, weights: Weights) -> float:
    """The full weight of a term."""
    if name in RENDERS:
        return weights.render
    own = float(dataclasses.asdict(weights)[name])
    return weights.reconstruction * own if name in RECONSTRUCTION else own
