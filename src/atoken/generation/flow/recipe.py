"""Recipes of a flow's training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..config import DiTConfig, ObjectiveConfig, SampleConfig, dit_config
from ..recipe import GeneratorRecipe
from .flops import activation_bytes, training_flops
from .net import DiT

CHANNELS = 48
"""Of a latent, where no shards are looked at."""


@dataclass(frozen=True, kw_only=True)
class FlowRecipe(GeneratorRecipe):
    """A flow's training run; sizes are ``generation.config.SIZES``."""

    kind: ClassVar[str] = "flow"

    whiten: bool = False
    """Rotate latents to axes that do not vary together before they are scaled."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    sampling: SampleConfig = field(default_factory=SampleConfig)

    def net_config(self, text_width: int = 0, channels: int = CHANNELS, **tokens: Any) -> DiTConfig:
        """The transformer of the recipe's size."""
        return dit_config(self.size, channels, classes=self.classes, text_width=text_width)

    def build_net(self, config: DiTConfig) -> DiT:
        """That transformer with random weights."""
        return DiT(config)

    def flops(self, config: DiTConfig, lengths: Sequence[float], context: Sequence[float]) -> float:
        """See ``GeneratorRecipe``."""
        return training_flops(config, lengths, context)

    def activation_bytes(self, config: DiTConfig, tokens: float) -> float:
        """See ``GeneratorRecipe``."""
        return activation_bytes(config, tokens, self.parallel.checkpointing)
