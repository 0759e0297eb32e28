"""Architecture and objective of a masked generator as data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ...core.text import shortened
from ..config import GeneratorConfig, NetConfig, check_sampling, require

ORDERS = ("random", "raster")
LARGEST_CODEBOOK = 65536


@dataclass(frozen=True)
class MaskedNetConfig(NetConfig):
    """A masked generator's net: its size, its codes, and what it may be told. Raises ``ValueError`` for bad numbers."""

    encoder_depth: int
    decoder_depth: int
    width: int
    heads: int
    mlp_width: int
    head_depth: int
    """Blocks of the small transformer over the codes of a location; with its own width, heads and MLP."""
    head_width: int
    head_heads: int
    head_mlp_width: int
    start_tokens: int
    """Learnt tokens before those of each sample, which carry its label (MAR: 64)."""
    levels: tuple[tuple[int, ...], ...] = ((4,) * 6,) * 8
    """Levels of each quantized number, one tuple for each code, as ``ModelConfig.fsq_levels``."""
    order: str = "random"
    """Order of the locations: "random", any number of them in one step, or "raster", as their coordinates come."""
    classes: int = 0
    text_width: int = 0
    image_width: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.head_width % (2 * self.head_heads) == 0,
            f"generator: head_width {self.head_width} must be an even number times head_heads {self.head_heads}",
        )
        require(self.order in ORDERS, f"generator: order must be {' or '.join(ORDERS)}, not {shortened(self.order)!r}")
        require(
            bool(self.levels) and all(group and min(group) >= 2 for group in self.levels),
            f"generator: levels {shortened(self.levels)} must be 2 or more in each group",
        )
        largest = max(math.prod(group) for group in self.levels)
        require(largest <= LARGEST_CODEBOOK, f"generator: levels give {largest} codes, more than {LARGEST_CODEBOOK}")

    @property
    def blocks(self) -> int:
        """Blocks of encoder and decoder."""
        return self.encoder_depth + self.decoder_depth

    @property
    def channels(self) -> int:
        """Quantized numbers of a token."""
        return sum(map(len, self.levels))


SIZES = {
    "nano": (3, 4, 256, 4, 1024, 3, 96, 3, 256, 8),
    "B": (12, 12, 768, 12, 3072, 4, 768, 8, 2048, 64),
    "L": (16, 16, 1024, 16, 4096, 4, 1024, 8, 2730, 64),
}
"""Numbers of ``MaskedNetConfig`` up to ``start_tokens``: but for nano those of TokenBridge, whose head has 8/3 of its
width in a SwiGLU here."""


def masked_config(
    size: str, levels: tuple[tuple[int, ...], ...] = ((4,) * 6,) * 8, order: str = "random", **inputs: int
) -> MaskedNetConfig:
    """The net of that size. Raises ``ValueError`` for a size that is none of ``SIZES``."""
    require(size in SIZES, f"size is {shortened(size)!r}: give one of {', '.join(SIZES)}")
    return MaskedNetConfig(*SIZES[size], levels, order, **inputs)


@dataclass(frozen=True)
class MaskedObjectiveConfig:
    """How much is masked in training: a normal distribution cut to ``mask_least`` ... 1, as MAR's.

    Raises ``ValueError`` for values that cannot be.
    """

    mask_mean: float = 1.0
    mask_std: float = 0.25
    mask_least: float = 0.7
    drop: float = 0.1
    """Share of samples that are told nothing, so that the net can guide."""

    def __post_init__(self) -> None:
        where = "generator: objective"
        require(self.mask_std > 0, f"{where} needs a positive mask_std, not {self.mask_std}")
        require(0 <= self.mask_least < 1, f"{where} needs mask_least between 0 and 1, not {self.mask_least}")
        require(0 <= self.drop < 1, f"{where} needs drop between 0 and 1, not {self.drop}")
        away = max(self.mask_least - self.mask_mean, self.mask_mean - 1) / self.mask_std
        require(away < 5, f"{where}: a mask_mean of {self.mask_mean} lies too far from {self.mask_least} ... 1")


@dataclass(frozen=True)
class MaskedSampleConfig:
    """How codes are drawn, where a call does not say otherwise. Raises ``ValueError`` for values that cannot be."""

    steps: int = 64
    """Steps in which locations become known; in raster order there is one for each location."""
    guidance: float = 1.0
    """How far the condition is exaggerated; 1: not at all, and the net is computed once a step."""
    temperature: float = 1.0
    """What logits are divided by; 0: the most probable code of each group."""

    def __post_init__(self) -> None:
        check_sampling(self.steps, self.guidance)
        require(self.temperature >= 0, f"temperature is {self.temperature}: give 0 or more")


@dataclass(frozen=True)
class MaskedConfig(GeneratorConfig):
    """All of a masked generator but its numbers."""

    kind: ClassVar[str] = "masked"

    net: MaskedNetConfig
    generator: str = "masked"
    objective: MaskedObjectiveConfig = MaskedObjectiveConfig()
    sampling: MaskedSampleConfig = MaskedSampleConfig()
