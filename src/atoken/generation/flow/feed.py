"""Latents out of token shards: their statistics, and batches of them."""

from __future__ import annotations

import numpy as np
import torch

from ...data.tokens import TokenBatch
from ...nn.packed import Packed
from ...tokens.samples import FEATURES
from ...tokens.shards import TokenShards
from ..condition import Condition
from ..latents import Normaliser
from .objective import FlowBatch

MEASURED = 10_000
"""Samples whose latents are measured."""


def measure(shards: TokenShards, whiten: bool) -> Normaliser:
    """Statistics of the latents of ``MEASURED`` samples, evenly spread."""
    numbers = np.linspace(0, len(shards) - 1, min(MEASURED, len(shards))).round().astype(int)
    return Normaliser.of((shards[int(i)].tokens.latents for i in numbers), whiten=whiten)


def flow_batch(found: TokenBatch, condition: Condition, seed: int, *, aligned: bool) -> FlowBatch:
    """What a flow learns from; ``aligned``: with the features of the samples."""
    extras = torch.cat([sample.extras[FEATURES] for sample in found.samples]) if aligned else None
    return FlowBatch(Packed(found.values.float(), found.coords), condition, seed, extras, found.cursor)
