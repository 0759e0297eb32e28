"""``FlowGenerator``: pictures by way of continuous tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...pipeline.atoken import AToken
from ...tokens.tokens import Tokens
from ..condition import Condition
from ..config import FlowConfig, SampleConfig
from ..generator import Generator, Step
from ..latents import Normaliser
from .net import DiT
from .objective import shift_of
from .sampler import draw

STATS = "stats."
"""Before the names of the statistics in a file."""


class FlowGenerator(Generator):
    """A trained flow. Raises ``ValueError`` as ``Generator`` does, and for another number of channels."""

    tokens = "continuous"
    config_class = FlowConfig
    net_class = DiT
    kept = ("embed.weight", "final.weight")
    config: FlowConfig
    net: DiT

    def __init__(self, config: FlowConfig, net: DiT, stats: Normaliser, tokenizer: AToken) -> None:
        super().__init__(config, net, tokenizer)
        channels = config.net.latent_channels
        if tokenizer.config.latent_channels != channels or len(stats.mean) != channels:
            raise ValueError(f"the generator draws {channels} channels; tokenizer and statistics must have as many")
        self.stats = stats

    @classmethod
    def extra_tensors(cls, config: Any) -> dict[str, Tensor]:
        """Those of the statistics."""
        channels = torch.empty(config.net.latent_channels, device="meta")
        basis = {f"{STATS}basis": channels.expand(len(channels), -1)} if config.whitened else {}
        return {f"{STATS}mean": channels, f"{STATS}std": channels, **basis}

    @classmethod
    def assemble(cls, config: Any, net: Any, extras: Mapping[str, Tensor], tokenizer: AToken) -> FlowGenerator:
        """The generator of what a file holds."""
        stats = Normaliser(**{name.removeprefix(STATS): tensor.float() for name, tensor in extras.items()})
        return cls(config, net, stats, tokenizer)

    def extras(self) -> dict[str, Tensor]:
        """The statistics."""
        return {STATS + name: tensor for name, tensor in self.stats.to_state().items()}

    def features(self, tokens: Tokens) -> Tensor:
        """Normalised latents."""
        return self.stats.normalise(tokens.latents.float())

    def draw(
        self,
        coords: Sequence[Tensor],
        condition: Condition,
        seeds: Sequence[int],
        options: SampleConfig,
        on_step: Step | None,
    ) -> list[Tensor]:
        """Latents fp32 [n, C] of B samples together."""
        objective = self.config.objective
        if options.shift is not None:
            objective = replace(objective, shift=options.shift)
        shift = shift_of(objective, self.config.net.latent_channels, [len(places) for places in coords])
        drawn = draw(self.net, coords, condition, seeds, shift, objective.prediction, options, on_step)
        return [self.stats.restore(x) for x in drawn]
