"""Recipes of a flow's training."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ...data.config import TurnConfig
from ...engine.config import RunConfig
from ...engine.recipe import read_recipe
from ..config import ObjectiveConfig, SampleConfig, check_size, dit_config


@dataclass(frozen=True)
class TokensConfig(TurnConfig):
    """Token shards (docs/tokens.md) that a flow learns from."""

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
class FlowRecipe(RunConfig):
    """A flow's training run."""

    generator: str
    """"flow"."""
    name: str
    size: str
    """One of ``generation.config.SIZES``."""
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
    whiten: bool = False
    """Rotate latents to axes that do not vary together before they are scaled."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    sampling: SampleConfig = field(default_factory=SampleConfig)
    previews: PreviewConfig = field(default_factory=PreviewConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.generator != "flow":
            raise ValueError(f"train config: generator is {self.generator!r}: give flow")
        check_size(*self.picture)
        dit_config(self.size, 1)
        if self.labels is not None and not self.classes:
            raise ValueError("train config: labels are names of classes: say how many classes there are")
        if (self.previews.prompts and not self.text_tower) or (self.previews.labels and not self.classes):
            raise ValueError("train config: previews need what the generator is told: a text_tower, or classes")

    def read_labels(self) -> tuple[str, ...]:
        """Names of the classes. Raises ``ValueError`` for another number of them."""
        if self.labels is None:
            return ()
        names = tuple(Path(self.labels).read_text("utf-8").splitlines())
        if len(names) != self.classes:
            raise ValueError(f"{self.labels} has {len(names)} lines for {self.classes} classes")
        return names


def read_flow_recipe(path: Path, *, allow_commands: bool = False) -> FlowRecipe:
    """Read a recipe. Raises ``FileNotFoundError`` or ``ValueError`` with one sentence that names the file."""
    return read_recipe(FlowRecipe, path, allow_commands=allow_commands)
