"""The tokenizer's training run as data, read from YAML; an unknown key or a wrong type raises."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..core.hooks import HookConfig, is_hook
from ..data.config import FeedConfig
from ..engine.config import LogConfig, OptimizerConfig, RunConfig
from ..engine.recipe import read_recipe
from ..losses.sigmoid import START_BIAS, START_LOG_SCALE
from ..losses.total import Weights
from ..tokenizer.config import PRESETS, GaussianConfig, ModelConfig
from .networks import MINILM, MINILM_WIDTH, PerceptualConfig, TextConfig
from .tasks import TASKS, Task, task_class

DECODED = ("encoder.", "proj.", "decoder.")
"""What decoded patches come from, which tasks that keep them need frozen."""
MINILM_LOG_SCALE = 3.4
"""exp(3.4) = 30: with it unit vectors can come nearest to a classifier's log-probabilities over the class prompts."""
SIGLIP2 = "siglip2:"
"""What ``init_from`` begins with where the encoder comes from a SigLIP2 vision tower."""


@dataclass(frozen=True)
class TaskConfig(FeedConfig):
    """One task of the tokenizer: what it learns, on what, and how often. ``task`` is one of ``TASKS`` or
    ``module:Class``, a ``Task`` of your own."""

    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of a task of your own."""

    @property
    def kind(self) -> type[Task]:
        """The task's class; one of your own is imported, once the recipe that names it may do so."""
        return task_class(self.task)

    @property
    def about_text(self) -> bool:
        """Whether it aligns embeddings with texts."""
        return self.kind.about_text

    def runs_code(self) -> Iterator[str]:
        """The import of a task of your own."""
        if is_hook(self.task):
            yield from HookConfig(self.task).runs_code()

    def __post_init__(self) -> None:
        super().__post_init__()
        if is_hook(self.task):
            return
        if self.options:
            raise ValueError(f"train config: {self.task} takes no options: they are for tasks of your own")
        for source in ("clips", "assets"):
            if getattr(self, source) is not None and source not in self.kind.sources:
                raise ValueError(f"train config: {self.task} takes no {source}")
        if self.kind.keeps_decoded and (self.assets is None or not self.assets.views):
            raise ValueError(f"train config: {self.task} needs assets with views")


@dataclass(frozen=True)
class TermConfig(HookConfig):
    """A term of your own of the loss of reconstruction: a class that is called with ``options``, and then with decoded
    patches and those that went in, fp32 [N, C] in [-1, 1], and the batch; it returns a scalar."""

    weight: float = 1.0


@dataclass(frozen=True)
class TokenizerOptimizerConfig(OptimizerConfig):
    """With a learning rate of its own for the encoder."""

    encoder_scale: float = 0.1
    """The encoder's learning rate, relative to the others'."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.encoder_scale < math.inf:
            raise ValueError(f"train config: encoder_scale must be 0 or more, not {self.encoder_scale}")


@dataclass(frozen=True)
class TokenizerLogConfig(LogConfig):
    """With reconstructions."""

    pictures: int = 6
    """Reconstructions shown with each checkpoint."""
    eval_path: str | None = None
    """Folder of photographs whose PSNR is logged with every checkpoint."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pictures < 0:
            raise ValueError("train config: pictures of the log must not be negative")


@dataclass(frozen=True)
class TrainConfig(RunConfig):
    """One stage."""

    model: str
    """Preset."""
    tasks: tuple[TaskConfig, ...] = field(kw_only=True)
    blocks: tuple[int, int] | None = None
    """Of the encoder and of the decoder; None: the preset's. Those that ``init_from`` has not add nothing at first."""
    gaussians: GaussianConfig | None = None
    """Head for 3D. None: that of ``init_from``, if it has one. Where ``init_from`` has none, or another one than this,
    the head starts anew and all else as it was; one that lacks nothing but ``neighbours`` goes on."""
    latent_channels: int | None = None
    """Numbers of a latent; None: the preset's, or that of ``init_from``."""
    quantize: bool = False
    """Round the latents to FSQ codes, gradients straight through."""
    init_from: str | None = None
    """Model directory to start from (that of the stage before), or ``siglip2:`` and a SigLIP2 checkpoint."""
    start: str | None = None
    """"linear": the best linear autoencoder of the data's patches; "discrete": ``init_from`` with its latents rotated
    and rounded with the least loss."""
    frozen: tuple[str, ...] = ()
    """Beginnings of the names of weights that stay as they are, such as ``encoder.``."""
    optimizer: TokenizerOptimizerConfig = field(default_factory=TokenizerOptimizerConfig, kw_only=True)
    loss: Weights = field(default_factory=Weights)
    perceptual: PerceptualConfig | None = None
    """None: no terms lpips, gram and clip."""
    text: TextConfig = field(default_factory=TextConfig)
    log: TokenizerLogConfig = field(default_factory=TokenizerLogConfig, kw_only=True)
    bottleneck: HookConfig | None = None
    """A class of your own between encoder and decoder while the model trains: called with ``options``, and then with
    the model, what it has encoded and noise fp32 [N, C] (None for codes); it returns what the decoder reads, fp32
    [N, C], and the KL divergence [N] or None. The trained model is used without it."""
    terms: tuple[TermConfig, ...] = ()
    """Terms of your own of the loss of reconstruction."""

    def __post_init__(self) -> None:
        if self.model not in PRESETS:
            raise ValueError(f"train config: no preset {self.model!r}; there are {', '.join(PRESETS)}")
        if self.start not in (None, "linear", "discrete"):
            raise ValueError(f"train config: start is {self.start!r}: give linear or discrete, or leave it out")
        if (self.start == "linear" and self.init_from) or (self.start == "discrete" and not self.init_from):
            raise ValueError("train config: start: linear takes no init_from, and start: discrete needs one")
        if self.start == "discrete" and not self.quantize:
            raise ValueError("train config: start: discrete needs quantize: true")
        for task in self.tasks:
            if task.task not in TASKS:
                continue
            if task.kind.keeps_decoded and not all(part.startswith(self.frozen) for part in DECODED):
                raise ValueError(f"train config: {task.task} keeps what is decoded: freeze encoder, proj and decoder")
            if task.kind.keeps_decoded and self.parallel.strategy == "fsdp":
                raise ValueError(f"train config: each rank of {task.task} decodes what it lacks: take strategy: ddp")
            if self.parallel.graphs and task.shards and task.kind.decodes and task.kind.modality != "3d":
                raise ValueError(
                    "train config: shards have pictures and clips of ever other sizes, each of which would be a graph "
                    "of its own: leave graphs out, or take crops or clips"
                )
        super().__post_init__()

    @property
    def model_config(self) -> ModelConfig:
        """The preset with this stage's latents."""
        preset = PRESETS[self.model]
        kinds = ("discrete",) if self.quantize else ("continuous",)
        encoder_depth, decoder_depth = self.blocks or (preset.encoder_depth, preset.decoder_depth)
        config = replace(
            preset,
            encoder_depth=encoder_depth,
            decoder_depth=decoder_depth,
            latent_channels=self.latent_channels or preset.latent_channels,
            kinds=kinds,
            gaussians=self.gaussians or preset.gaussians,
        )
        if not any(task.about_text for task in self.tasks):
            return config
        config = replace(config, text_tower=self.text.tower, embed_tokens=self.text.embed_tokens)
        if self.text.tower == MINILM:
            config = replace(config, embed_dim=MINILM_WIDTH, logit_scale=MINILM_LOG_SCALE, logit_bias=START_BIAS)
        if not any(task.kind.distils for task in self.tasks):  # distillation has a scale of its own
            config = replace(config, logit_scale=START_LOG_SCALE, logit_bias=START_BIAS)
        return config


def read_config(path: Path, *, allow_commands: bool = False) -> TrainConfig:
    """Read a recipe (``engine.recipe.read_recipe``)."""
    return read_recipe(TrainConfig, path, allow_commands=allow_commands)
