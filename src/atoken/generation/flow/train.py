"""A flow's training on the engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...data.tokens import TokenBatch
from ...engine.loop import run
from ...engine.ranks import Ranks
from ..condition import Condition
from ..config import FlowConfig
from ..latents import Normaliser
from ..train import GeneratorSpec
from .feed import flow_batch, measure
from .generator import STATS, FlowGenerator
from .net import DiT
from .objective import FlowBatch, FlowObjective
from .recipe import FlowRecipe


def train(recipe: FlowRecipe, out: Path, device: str = "cpu", stop_after: int | None = None) -> FlowConfig | None:
    """Train to the end of ``recipe``, continuing from the last checkpoint under ``out`` where there is one.

    Writes what ``engine.loop.run`` does, and at the end the averaged generator in bf16 under ``out/model``.
    """
    return run(FlowSpec(recipe), out, device, stop_after)


class FlowModule(nn.Module):
    """The objective, and how latents are normalised."""

    mean: Tensor
    std: Tensor
    basis: Tensor | None

    def __init__(self, objective: FlowObjective, stats: Normaliser) -> None:
        super().__init__()
        self.objective = objective
        for name in ("mean", "std", "basis"):
            self.register_buffer(name, getattr(stats, name))

    @property
    def stats(self) -> Normaliser:
        """The statistics of the latents."""
        return Normaliser(self.mean, self.std, self.basis)

    def forward(self, task: str, batch: FlowBatch) -> dict[str, Tensor]:
        """Unweighted terms of a batch."""
        device = self.mean.device
        latents = batch.latents.to(device)
        with torch.autocast(device.type, enabled=False):
            latents = latents.with_feats(self.stats.normalise(latents.feats))
        features = None if batch.features is None else batch.features.to(device, non_blocking=True)
        return self.objective(replace(batch, latents=latents, condition=batch.condition.to(device), features=features))


class FlowSpec(GeneratorSpec):
    """What the engine asks about the training of a flow."""

    generator_class = FlowGenerator
    fixed = (*GeneratorSpec.fixed, "whitened")
    config: FlowRecipe
    generator_config: FlowConfig

    @property
    def aligned(self) -> bool:
        """Whether the objective aligns with features."""
        return self.config.objective.align > 0

    def tokens(self) -> dict[str, Any]:
        """How many channels latents have."""
        return {"channels": self.origin.channels}

    def facts(self) -> dict[str, Any]:
        """Whether latents are whitened."""
        return {"whitened": self.config.whiten}

    def make(self, found: TokenBatch, condition: Condition, seed: int) -> FlowBatch:
        """Latents of a batch."""
        return flow_batch(found, condition, seed, aligned=self.aligned)

    def module(self) -> FlowModule:
        """A net with statistics that change nothing."""
        channels = self.origin.channels
        basis = torch.eye(channels) if self.config.whiten else None
        return self._module(Normaliser(torch.zeros(channels), torch.ones(channels), basis))

    def start(self, ranks: Ranks) -> FlowModule:
        """The same with the statistics of the first task's latents."""
        return self._module(measure(self.shards[self.config.tasks[0].task], self.config.whiten))

    def _module(self, stats: Normaliser) -> FlowModule:
        objective = FlowObjective(DiT(self.generator_config.net), self.config.objective, self.origin.features)
        return FlowModule(objective, stats)

    def generator(self, module: FlowModule) -> FlowGenerator:
        """The flow with the module's statistics."""
        return FlowGenerator(self.generator_config, module.objective.net, module.stats, self.tokenizer)

    def extras(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The statistics."""
        stats = Normaliser(state["mean"], state["std"], state.get("basis"))
        return {STATS + name: tensor for name, tensor in stats.to_state().items()}
