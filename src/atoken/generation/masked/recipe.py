"""Recipes of a masked generator's training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..recipe import GeneratorRecipe
from .config import MaskedNetConfig, MaskedObjectiveConfig, MaskedSampleConfig, masked_config
from .net import MaskedNet

LEVELS = ((4,) * 6,) * 8
"""Of codes, where no shards are looked at."""
SEEN = 0.14
"""Share of locations that the encoder sees in training, on average, of 0.7 ... 1 that are masked."""


@dataclass(frozen=True, kw_only=True)
class MaskedRecipe(GeneratorRecipe):
    """A masked generator's training run; sizes are ``generation.masked.config.SIZES``."""

    kind: ClassVar[str] = "masked"

    order: str = "random"
    """Order of the locations, "random" or "raster"."""
    objective: MaskedObjectiveConfig = field(default_factory=MaskedObjectiveConfig)
    sampling: MaskedSampleConfig = field(default_factory=MaskedSampleConfig)

    def net_config(
        self, text_width: int = 0, levels: tuple[tuple[int, ...], ...] = LEVELS, **tokens: Any
    ) -> MaskedNetConfig:
        """The net of the recipe's size."""
        return masked_config(self.size, levels, self.order, classes=self.classes, text_width=text_width)

    def build_net(self, config: MaskedNetConfig) -> MaskedNet:
        """That net with random weights."""
        return MaskedNet(config)

    def flops(self, config: MaskedNetConfig, lengths: Sequence[float], context: Sequence[float]) -> float:
        """See ``GeneratorRecipe``."""
        width, raster = config.width, config.order == "raster"
        total = 0.0
        for length, told in zip(lengths, context, strict=True):
            before = config.start_tokens + told
            for depth, tokens in (
                (config.encoder_depth, before + length * (1.0 if raster else SEEN)),
                (config.decoder_depth, before + length),
            ):
                block = tokens * (4 * width * width + 2 * width * config.mlp_width) + 2 * tokens * tokens * width
                total += depth * block
            own, hidden, groups = config.head_width, config.head_mlp_width, len(config.levels)
            block = (
                groups * (4 * own * own + 3 * own * hidden + 2 * groups * own) + 6 * own * own
            )  # steered by location
            ends = own * sum(math.prod(levels) for levels in config.levels) + 2 * own * own + width * own
            total += length * (1.0 if raster else 1 - SEEN) * (config.head_depth * block + ends)
            total += length * config.channels * width + told * width * config.text_width
        return 6 * total

    def activation_bytes(self, config: MaskedNetConfig, tokens: float) -> float:
        """See ``GeneratorRecipe``: 14 widths and 2 hidden widths a token and block, the head's of each code, logits."""
        block = 2 * (14 * config.width + 2 * config.mlp_width)
        own = 2 * (24 * config.head_width + 4 * config.head_mlp_width)
        logits = 4 * sum(math.prod(levels) for levels in config.levels)
        if self.parallel.checkpointing:
            heads = config.head_depth * 4 * config.head_width + own
            return tokens * (config.blocks * 4 * config.width + block + len(config.levels) * heads + logits)
        return tokens * (config.blocks * block + len(config.levels) * config.head_depth * own + logits)
