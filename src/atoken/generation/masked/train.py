"""A masked generator's training on the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...data.tokens import TokenBatch
from ...engine.loop import run
from ..condition import Condition
from ..train import GeneratorSpec
from .config import MaskedConfig
from .generator import MaskedGenerator
from .net import MaskedNet
from .objective import CodeBatch, MaskedObjective
from .recipe import MaskedRecipe


def train(recipe: MaskedRecipe, out: Path, device: str = "cpu", stop_after: int | None = None) -> MaskedConfig | None:
    """Train to the end of ``recipe``, continuing from the last checkpoint under ``out`` where there is one.

    Writes what ``engine.loop.run`` does, and at the end the averaged generator in bf16 under ``out/model``.
    """
    return run(MaskedSpec(recipe), out, device, stop_after)


class MaskedModule(nn.Module):
    """The objective, as the engine calls it."""

    def __init__(self, objective: MaskedObjective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, task: str, batch: CodeBatch) -> dict[str, Tensor]:
        """Unweighted terms of a batch."""
        return self.objective(batch)


class MaskedSpec(GeneratorSpec):
    """What the engine asks about the training of a masked generator."""

    generator_class = MaskedGenerator
    config: MaskedRecipe
    generator_config: MaskedConfig

    def tokens(self) -> dict[str, Any]:
        """The codebooks."""
        return {"levels": self.origin.levels}

    def make(self, found: TokenBatch, condition: Condition, seed: int) -> CodeBatch:
        """Codes of a batch."""
        return CodeBatch(found.values.long(), found.coords, condition, seed, found.cursor)

    def module(self) -> MaskedModule:
        """The objective with a net of random weights."""
        return MaskedModule(MaskedObjective(MaskedNet(self.generator_config.net), self.config.objective))

    def generator(self, module: MaskedModule) -> MaskedGenerator:
        """The masked generator of a module."""
        return MaskedGenerator(self.generator_config, module.objective.net, self.tokenizer)
