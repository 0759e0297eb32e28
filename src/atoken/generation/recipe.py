"""Recipes of any generator's training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..core.errors import reading
from ..core.regular import read_regular
from ..core.text import decoded
from ..data.config import TurnConfig
from ..engine.config import RunConfig
from .config import NetConfig, check_size
from .net import ConditionedNet


@dataclass(frozen=True)
class TokensConfig(TurnConfig):
    """Token shards (docs/tokens.md) that a generator learns from."""

    tokens: int = field(kw_only=True)
    """Most tokens of one batch on one rank, those of texts not counted."""
    shards: tuple[str, ...] = field(kw_only=True)
    """Shards, or folders of them."""
    samples: int | None = None
    """Most samples of one batch; None: as many as fit into ``tokens``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.tokens, 1 if self.samples is None else self.samples) < 1 or not self.shards:
            raise ValueError(f"train config: {self.task} needs positive tokens and samples, and shards")


@dataclass(frozen=True)
class PreviewConfig:
    """What is drawn with every checkpoint."""

    prompts: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    tokenizer: str | None = None
    """What ``atoken.load`` takes; None: the shipped model that the tokens name."""

    def __post_init__(self) -> None:
        if self.prompts and self.labels:
            raise ValueError("train config: previews are of prompts or of labels, not of both")


@dataclass(frozen=True, kw_only=True)
class GeneratorRecipe(RunConfig, ABC):
    """A generator's training run; each kind has a subclass."""

    kind: ClassVar[str]

    generator: str
    """Kind of the generator."""
    name: str
    size: str
    """One of the sizes of its kind."""
    picture: tuple[int, int] = (256, 256)
    """Height and width that the trained generator draws by default, and that the dry run reckons with."""
    tasks: tuple[TokensConfig, ...]
    classes: int = 0
    """Classes of the samples' labels; 0: labels are not looked at."""
    labels: str | None = None
    """File with the names of the classes, one a line."""
    text_tower: str | None = None
    """Whose token states of the samples' captions are read, as ``atoken.text`` names it; None: captions are not looked
    at."""
    previews: PreviewConfig = field(default_factory=PreviewConfig)
    objective: Any
    """What is learnt."""
    sampling: Any
    """How the trained generator draws by default."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.generator != self.kind:
            raise ValueError(f"train config: generator is {self.generator!r}: give {self.kind}")
        check_size(*self.picture)
        self.net_config()
        if self.labels is not None and not self.classes:
            raise ValueError("train config: labels are names of classes: say how many classes there are")
        if (self.previews.prompts and not self.text_tower) or (self.previews.labels and not self.classes):
            raise ValueError("train config: previews need what the generator is told: a text_tower, or classes")

    @abstractmethod
    def net_config(self, text_width: int = 0, **tokens: Any) -> NetConfig:
        """The net, told classes as the recipe says; ``tokens``: facts of the shards, elsewhere the paper's."""

    @abstractmethod
    def build_net(self, config: Any) -> ConditionedNet:
        """That net with random weights."""

    @abstractmethod
    def flops(self, config: Any, lengths: Sequence[float], context: Sequence[float]) -> float:
        """Floating-point operations of forward and backward over samples of so many tokens and tokens in context.

        Matrix products of the net alone, two operations for each multiplication; backward counts twice forward.
        """

    @abstractmethod
    def activation_bytes(self, config: Any, tokens: float) -> float:
        """What one batch of so many tokens keeps for the way back, roughly."""

    def read_labels(self) -> tuple[str, ...]:
        """Names of the classes. Raises ``ValueError`` for another number of them."""
        if self.labels is None:
            return ()
        with reading(self.labels, "save it as UTF-8"):
            names = tuple(decoded(read_regular(self.labels)).splitlines())
        if len(names) != self.classes:
            raise ValueError(f"{self.labels} has {len(names)} lines for {self.classes} classes")
        return names
