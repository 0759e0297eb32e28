"""Recipes of the language model's training: what is joined, and its stages."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..tokenizer.config import PRESETS
from .layout import LayoutConfig
from .sources import INPUTS

LEARNS = ("projector", "lora", "all")


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage: which rows, what learns, how fast. Raises ``ValueError`` for numbers that cannot be."""

    stage: str
    """Its name, and that of its folder."""
    data: tuple[str, ...]
    """Files of JSON lines (docs/mllm.md), all rows of which are drawn equally often."""
    shards: tuple[str, ...] = ()
    """Token shards, or folders of them, for rows that name their sources by key."""
    learns: str = "projector"
    """"projector"; "lora": the projector, and LoRA of all matrices of the language model; "all": both whole."""
    rank: int = 8
    """Of LoRA, whose alpha is twice as much."""
    steps: int
    batch: int = 8
    """Rows of a micro-batch on one rank."""
    accumulate: int = 1
    """Micro-batches of a step."""
    lr: float = 1e-3
    warmup: float = 0.03
    """Share of the steps; then down along a cosine."""
    weight_decay: float = 0.0
    patches: int = 0
    """Tokens that the tower makes of a row on average; with ``tokens`` only the dry run reads it."""
    tokens: int = 0
    """Tokens of a row in the language model, on average."""

    def __post_init__(self) -> None:
        if self.learns not in LEARNS:
            raise ValueError(
                f"train config: learns of stage {self.stage!r} is {self.learns!r}: give {', '.join(LEARNS)}"
            )
        if min(self.steps, self.batch, self.accumulate, self.rank) < 1 or min(self.patches, self.tokens) < 0:
            raise ValueError(
                f"train config: steps, batch, accumulate and rank of stage {self.stage!r} must be positive"
            )
        if not (0 < self.lr < math.inf and 0 <= self.warmup < 1 and 0 <= self.weight_decay < math.inf):
            raise ValueError(f"train config: lr, warmup or weight_decay of stage {self.stage!r} cannot be")
        if not self.data or not self.stage or set(self.stage) & set("/\\."):
            raise ValueError("train config: each stage needs data, and a name that a folder can have")


@dataclass(frozen=True, kw_only=True)
class MllmRecipe:
    """A language model that learns to read a frozen tokenizer's tokens."""

    name: str
    language_model: str
    """A name of ``LANGUAGE_MODELS``, a folder of transformers, or owner/name on the hub."""
    tokenizer: str = "nano"
    """What ``atoken.load`` takes."""
    size: str = "nano"
    """The tokenizer's architecture, one of ``PRESETS``; only the dry run reads it."""
    inputs: str = "hidden"
    layer: int | None = None
    layout: LayoutConfig = field(default_factory=LayoutConfig)
    stages: tuple[StageConfig, ...]
    autocast: bool = True
    """bf16 matrix products of the language model."""
    checkpointing: bool = False
    """Activation checkpointing of the language model's blocks."""
    save_every: int = 200
    """Steps between checkpoints."""
    ranks: int = 1
    """Processes that the batches are meant for; only the dry run reads it."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.inputs not in INPUTS:
            raise ValueError(f"train config: inputs is {self.inputs!r}: give {', '.join(INPUTS)}")
        if self.size not in PRESETS:
            raise ValueError(f"train config: size is {self.size!r}: give one of {', '.join(PRESETS)}")
        names = [stage.stage for stage in self.stages]
        if not names or len(set(names)) < len(names):
            raise ValueError("train config: give stages, each with a name of its own")
        if any(stage.learns == "all" for stage in self.stages) and any(stage.learns == "lora" for stage in self.stages):
            raise ValueError("train config: a language model learns by lora or whole, not by both")
        if min(self.ranks, self.save_every) < 1 or self.seed < 0:
            raise ValueError("train config: ranks and save_every must be positive, and seed not negative")

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(stage.steps for stage in self.stages)
