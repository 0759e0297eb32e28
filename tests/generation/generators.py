"""Small generators of a tiny tokenizer's tokens, all with random weights."""

from __future__ import annotations

from typing import Any

import torch
from flow_parts import rand

from atoken import PRESETS, AToken
from atoken.generation.config import DiTConfig, FlowConfig, SampleConfig
from atoken.generation.flow.generator import FlowGenerator
from atoken.generation.flow.net import DiT
from atoken.generation.latents import Normaliser

WORDS = 8


class Tower:
    """Reads letters: a state for each, the same in every text."""

    name, width, state_width, weights_hash = "letters", 4, WORDS, "1" * 64

    def __init__(self, name: str = "letters", device: object = None) -> None:
        self.table = rand(128, WORDS, seed=3)

    def states(self, texts):
        return [self.table[[ord(letter) for letter in text]] for text in texts]


def tokenizer(seed: int = 0) -> AToken:
    torch.manual_seed(seed)
    return AToken(PRESETS["tiny"]).eval()


def generator(model: AToken, *, whiten: bool = False, seed: int = 0, **changes: Any) -> FlowGenerator:
    """A generator of ``model``'s tokens, told what ``changes`` say of the net."""
    inputs = {name: changes.pop(name) for name in ("classes", "text_width", "image_width") if name in changes}
    torch.manual_seed(seed)
    net = DiT(DiTConfig(2, 32, 2, 48, latent_channels=48, **inputs)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    scales = 1 + torch.arange(48.0) / 10
    stats = Normaliser.of([rand(200, 48, seed=4) * scales + 2], whiten=whiten)
    names = {"text_tower": "letters", "text_weights": Tower.weights_hash} if inputs.get("text_width") else {}
    config = FlowConfig(
        "small", net.config, model.config.name, model.weights_hash, size=(32, 48), whitened=whiten, **(names | changes)
    )
    return FlowGenerator(config, net, stats, model)


FAST = SampleConfig(steps=2)
