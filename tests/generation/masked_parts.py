"""Small masked generators, with few codes, so that all that can be drawn can be counted."""

from __future__ import annotations

from typing import Any

import torch
from flow_parts import PLACES
from torch import Tensor

from atoken import AToken
from atoken.generation.masked.config import MaskedConfig, MaskedNetConfig
from atoken.generation.masked.generator import MaskedGenerator
from atoken.generation.masked.net import MaskedNet

FEW = ((2, 2), (3,), (2, 3))
"""Codes of 4, 3 and 6 values: 72 tokens in all."""
LENGTHS = [len(places) for places in PLACES]


def small(seed: int = 0, levels: Any = FEW, **changes: Any) -> MaskedNet:
    """A net whose outputs and modulations are not zero, as they are at the start of training."""
    torch.manual_seed(seed)
    net = MaskedNet(MaskedNetConfig(2, 1, 32, 2, 48, 2, 16, 2, 24, 3, levels, **changes))
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return net.eval()


def some_codes(count: int, levels: Any = FEW, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.tensor([torch.tensor(group).prod() for group in levels])
    return (torch.rand(count, len(sizes), generator=generator) * sizes).long()


def masked_generator(model: AToken, seed: int = 0, **inputs: Any) -> MaskedGenerator:
    """A generator of ``model``'s codes, with random weights."""
    labels = inputs.pop("labels", ())
    net = small(seed, model.config.fsq_levels, **inputs)
    names = {"text_tower": "letters", "text_weights": "1" * 64} if inputs.get("text_width") else {}
    config = MaskedConfig(
        "small", net.config, model.config.name, model.weights_hash, size=(32, 48), labels=labels, **names
    )
    return MaskedGenerator(config, net, model)
