"""Architecture and objective of a generator as data."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from ..core.mapping import from_mapping
from ..core.text import shortened
from ..tokenizer.config import LARGEST_SIZE
from ..tokens.patch import PATCH

Kind = TypeVar("Kind", bound="GeneratorConfig")

PREDICTIONS = ("v", "x")
TIMES = ("logit-normal", "uniform")


def require(holds: bool, sentence: str) -> None:
    """Raise ``ValueError`` with that sentence unless it holds."""
    if not holds:
        raise ValueError(sentence)


def check_sampling(steps: int, guidance: float) -> None:
    """Raise ``ValueError`` for steps or guidance that cannot be."""
    require(steps >= 1, f"steps is {steps}: give 1 or more")
    require(guidance >= 0, f"guidance is {guidance}: give 0 or more; 1 is without guidance")


class NetConfig(ABC):
    """What the nets of all generators have in common. A subclass is a frozen dataclass with these fields and more."""

    width: int
    heads: int
    mlp_width: int
    classes: int
    """Class labels; 0: it is told none."""
    text_width: int
    """Numbers of a text token's state; 0: it reads no text."""
    image_width: int
    """Numbers of an image token; 0: it sees no image."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, int):
                least = 0 if name in ("classes", "text_width", "image_width") else 1
                most = 1000 if name.endswith("depth") else LARGEST_SIZE
                require(least <= value <= most, f"generator: {name} must lie in {least} ... {most}, not {value}")
        require(
            self.width % self.heads == 0 and self.head_dim % 8 == 0,
            f"generator: width {self.width} must be {self.heads} heads of a multiple of 8 (four rotary axes of pairs)",
        )

    @property
    @abstractmethod
    def blocks(self) -> int:
        """Transformer blocks over a sample's tokens."""

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.width // self.heads

    @property
    def has_condition(self) -> bool:
        """Whether it is told anything, without which guidance has no meaning."""
        return bool(self.classes or self.text_width or self.image_width)

    def check_guidance(self, guidance: float) -> None:
        """Raise ``ValueError`` for guidance of a net that is told nothing."""
        require(
            guidance == 1 or self.has_condition,
            f"guidance is {guidance:g}, and this generator is told nothing: leave it at 1",
        )


@dataclass(frozen=True)
class DiTConfig(NetConfig):
    """A diffusion transformer: its size, and what it may be told. Raises ``ValueError`` where numbers do not fit."""

    depth: int
    width: int
    heads: int
    mlp_width: int
    latent_channels: int
    classes: int = 0
    text_width: int = 0
    image_width: int = 0

    @property
    def blocks(self) -> int:
        """Transformer blocks."""
        return self.depth


SIZES = {
    "nano": (8, 256, 4, 640),
    "S": (12, 384, 6, 1024),
    "B": (12, 768, 12, 2048),
    "L": (24, 1024, 16, 2730),
    "XL": (28, 1152, 16, 3072),
}
"""Depth, width, heads and width of the MLP: but for nano those of LightningDiT (arXiv 2501.01423), whose SwiGLU is 8/3
of the width."""


def dit_config(size: str, latent_channels: int, **inputs: int) -> DiTConfig:
    """The transformer of that size. Raises ``ValueError`` for a size that is none of ``SIZES``."""
    require(size in SIZES, f"size is {shortened(size)!r}: give one of {', '.join(SIZES)}")
    return DiTConfig(*SIZES[size], latent_channels, **inputs)


@dataclass(frozen=True)
class ObjectiveConfig:
    """What a flow learns, and at which times. Raises ``ValueError`` for values that cannot be."""

    prediction: str = "v"
    """What the net's output is: the velocity "v", or the data "x", from which the velocity follows."""
    shift: float | None = None
    """By how much times move towards noise; None: sqrt(C * N / 4096) of a sample with N tokens of C numbers (RAE, arXiv
    2510.11690), and 1, not at all, where that is less."""
    times: str = "logit-normal"
    """Distribution of times before the shift, "logit-normal" or "uniform"."""
    time_mean: float = 0.0
    """Of the normal distribution before the sigmoid; above 0 is more noise."""
    time_std: float = 1.0
    clamp: float = 0.05
    """x-prediction: the loss divides by no smaller time than this."""
    cosine: float = 0.0
    """Weight of 1 - cosine similarity of the velocities (LightningDiT: 1)."""
    align: float = 0.0
    """Weight of 1 - cosine similarity between a block's output and features of the clean data (REPA, arXiv 2410.06940:
    0.5), here of the tokenizer's own encoder."""
    align_block: int = 4
    """Blocks before that output."""
    drop: float = 0.1
    """Share of samples that are told nothing, so that the net can guide."""

    def __post_init__(self) -> None:
        where = "generator: objective"
        require(self.prediction in PREDICTIONS, f"{where} needs prediction v or x, not {shortened(self.prediction)!r}")
        require(self.times in TIMES, f"{where} needs times {' or '.join(TIMES)}, not {shortened(self.times)!r}")
        require(self.shift is None or self.shift > 0, f"{where} needs a positive shift, not {self.shift}")
        require(self.time_std > 0, f"{where} needs a positive time_std, not {self.time_std}")
        require(0 < self.clamp < 1, f"{where} needs a clamp between 0 and 1, not {self.clamp}")
        require(min(self.cosine, self.align) >= 0, f"{where} needs weights that are not negative")
        require(self.align_block >= 1, f"{where} needs align_block of 1 or more, not {self.align_block}")
        require(0 <= self.drop < 1, f"{where} needs drop between 0 and 1, not {self.drop}")


@dataclass(frozen=True)
class SampleConfig:
    """How tokens are drawn, where a call does not say otherwise. Raises ``ValueError`` for values that cannot be."""

    steps: int = 40
    """Steps in time; Heun's method computes the net twice in each."""
    guidance: float = 1.0
    """How far the condition is exaggerated, on all channels; 1: not at all, and the net is computed once a step."""
    interval: tuple[float, float] = (0.0, 1.0)
    """Times at which there is guidance; both ends belong to it."""
    method: str = "euler"
    """"euler" or "heun"."""
    shift: float | None = None
    """By how much times move towards noise; None: as in training."""

    def __post_init__(self) -> None:
        check_sampling(self.steps, self.guidance)
        low, high = self.interval
        require(0 <= low <= high <= 1, f"interval is {low} ... {high}: give two ascending times between 0 and 1")
        require(self.method in ("euler", "heun"), f"method is {shortened(self.method)!r}: give euler or heun")
        require(self.shift is None or self.shift > 0, f"shift is {self.shift}: give a positive number")


@dataclass(frozen=True)
class GeneratorConfig:
    """All of a generator but its numbers; each kind has a subclass. Raises ``ValueError`` where facts do not fit."""

    kind: ClassVar[str]
    """What "generator" says in the files of this kind."""

    name: str
    net: NetConfig
    tokenizer: str
    """Name of the tokenizer whose tokens it draws."""
    tokenizer_weights: str
    """SHA-256 of that tokenizer's weights."""
    generator: str
    """Kind of the generator."""
    objective: Any
    """What it learnt."""
    sampling: Any
    """How it draws, where a call does not say otherwise."""
    text_tower: str | None = None
    """Whose token states it reads, as ``atoken.text`` names the tower."""
    text_weights: str | None = None
    """SHA-256 of that tower's weights."""
    labels: tuple[str, ...] = ()
    """Names of its classes."""
    size: tuple[int, int] = (256, 256)
    """Height and width in pixels of the pictures that it draws unless it is told otherwise."""

    def __post_init__(self) -> None:
        where = f"generator config {shortened(self.name)!r}: "
        require(self.generator == self.kind, f"{where}generator must be {self.kind}, not {shortened(self.generator)!r}")
        require(bool(self.text_tower) == bool(self.net.text_width), f"{where}text_tower and text_width go together")
        require(
            len(self.labels) in (0, self.net.classes),
            f"{where}{len(self.labels)} labels for {self.net.classes} classes",
        )
        require(min(self.size) >= 1, f"{where}size must be positive, not {self.size}")
        check_size(*self.size)

    def to_dict(self) -> dict[str, Any]:
        """The config as JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls: type[Kind], values: Mapping[str, Any]) -> Kind:
        """The inverse of ``to_dict``. Raises ``ValueError`` for an unknown or missing key or a wrong type."""
        return from_mapping(cls, values, where="generator config")


@dataclass(frozen=True)
class FlowConfig(GeneratorConfig):
    """All of a flow but its numbers."""

    kind: ClassVar[str] = "flow"

    net: DiTConfig
    generator: str = "flow"
    objective: ObjectiveConfig = ObjectiveConfig()
    sampling: SampleConfig = SampleConfig()
    whitened: bool = False
    """Whether latents are rotated before they are scaled."""


def check_size(height: int, width: int) -> None:
    """Raise ``ValueError`` unless a picture of that size is made of whole patches."""
    for side in (height, width):
        if side < PATCH[1] or side % PATCH[1]:
            near = max(PATCH[1], round(side / PATCH[1]) * PATCH[1])
            raise ValueError(f"size {width}x{height}: sides are multiples of {PATCH[1]} pixels, such as {near}")
