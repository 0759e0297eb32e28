"""``MaskedGenerator``: pictures by way of discrete tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...core.text import shortened
from ...pipeline.atoken import AToken
from ...tokens.tokens import Tokens
from ..condition import Condition
from ..generator import Generator, Step
from .config import MaskedConfig, MaskedSampleConfig
from .net import MaskedNet
from .sampler import draw


class MaskedGenerator(Generator):
    """A trained masked generator. Raises ``ValueError`` as ``Generator`` does, and for other codebooks."""

    tokens = "discrete"
    config_class = MaskedConfig
    net_class = MaskedNet
    kept = ("embed.weight",)
    config: MaskedConfig
    net: MaskedNet

    def __init__(self, config: MaskedConfig, net: MaskedNet, tokenizer: AToken) -> None:
        super().__init__(config, net, tokenizer)
        if tokenizer.config.fsq_levels != config.net.levels:
            raise ValueError(
                f"the generator {shortened(config.name)!r} draws codes of {shortened(config.net.levels)}, and the "
                f"tokenizer's are of {shortened(tokenizer.config.fsq_levels)}"
            )

    @classmethod
    def assemble(cls, config: Any, net: Any, extras: Mapping[str, Tensor], tokenizer: AToken) -> MaskedGenerator:
        """The generator of what a file holds."""
        return cls(config, net, tokenizer)

    def features(self, tokens: Tokens) -> Tensor:
        """Dequantized codes."""
        return tokens.latents.float()

    def options(self, how: Mapping[str, Any]) -> MaskedSampleConfig:
        """How to draw. Raises ``ValueError``, also for steps in raster order."""
        if self.config.net.order == "raster" and how.get("steps") is not None:
            raise ValueError("steps are those of random order: in raster order each location is one, leave them out")
        return super().options(how)

    def draw(
        self,
        coords: Sequence[Tensor],
        condition: Condition,
        seeds: Sequence[int],
        options: MaskedSampleConfig,
        on_step: Step | None,
    ) -> list[Tensor]:
        """Codes uint16 [n, G] of B samples together, on the CPU."""
        drawn = draw(self.net, coords, condition, seeds, options, on_step)
        return [codes.cpu().int().to(torch.uint16) for codes in drawn]
