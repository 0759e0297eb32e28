"""A training run as data, read from YAML; an unknown key or a wrong type raises."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..core.errors import ReadError, reading
from ..core.mapping import from_mapping
from ..core.regular import read_regular
from ..core.text import shortened
from ..data.config import FeedConfig, is_command
from ..losses.distillation import AXES
from ..losses.sigmoid import START_BIAS, START_LOG_SCALE
from ..losses.total import Weights
from ..tokenizer.config import PRESETS, GaussianConfig, ModelConfig

HEAD_ALONE = "3d-gaussians"
TASKS = (
    *("image-reconstruction", "image-text", "image-captions"),
    *("video-reconstruction", "video-text"),
    *("3d-reconstruction", HEAD_ALONE, "3d-text"),
)
DECODED = ("encoder.", "proj.", "decoder.")
"""What decoded patches come from, which ``HEAD_ALONE`` keeps."""
MINILM, MINILM_WIDTH = "all-minilm", 384
MINILM_LOG_SCALE = 3.4
"""exp(3.4) = 30: with it unit vectors can come nearest to a classifier's log-probabilities over the class prompts."""
SIGLIP2 = "siglip2:"
"""What ``init_from`` begins with where the encoder comes from a SigLIP2 vision tower."""


@dataclass(frozen=True)
class TaskConfig(FeedConfig):
    """One task of the tokenizer: what it learns, on what, and how often."""

    @property
    def about_text(self) -> bool:
        """Whether it aligns embeddings with texts."""
        return self.task.endswith(("text", "captions"))

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"train config: no task {self.task!r}; there are {', '.join(TASKS)}")
        super().__post_init__()
        if self.clips is not None and self.task != "video-reconstruction":
            raise ValueError(f"train config: {self.task} takes no clips")
        if self.task == HEAD_ALONE and (self.assets is None or not self.assets.views):
            raise ValueError("train config: 3d-gaussians needs assets with views")
        if self.assets is not None and not self.task.startswith("3d"):
            raise ValueError(f"train config: {self.task} takes no assets")


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW on everything, or Muon on the matrices of the blocks and AdamW on the rest; and the schedule of both."""

    lr: float = 3e-4
    """Full learning rate of AdamW."""
    muon_lr: float | None = None
    """Full learning rate of Muon; None: AdamW alone."""
    encoder_scale: float = 0.1
    """The encoder's learning rate, relative to the others'."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    """On matrices; never on norms, biases and position tables."""
    warmup: int = 2000
    """Steps of linear warm-up."""
    schedule: str = "cosine"
    """After the warm-up: "cosine" to the end, or "linear": constant, then straight down over ``decay`` steps."""
    final: float = 0.1
    """Share of the full rate at the end (3e-4 to 3e-5 in the paper)."""
    decay: int = 0
    """Steps of the fall, for the linear schedule."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.9999
    most_skipped: int = 50
    """Steps without a finite gradient that a run survives; they change nothing but this count."""

    def __post_init__(self) -> None:
        if self.schedule not in ("cosine", "linear"):
            raise ValueError(f"train config: schedule is {self.schedule!r}: give cosine or linear")
        for name in ("lr", "muon_lr", "encoder_scale", "weight_decay", "warmup", "decay", "final", "most_skipped"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"train config: {name} of the optimizer must be 0 or more, not {value}")
        if not self.clip > 0:
            raise ValueError(f"train config: clip must be positive, not {self.clip}")
        if not all(0 <= share < 1 for share in (*self.betas, self.ema)):
            raise ValueError("train config: betas and ema must lie between 0 and 1")


@dataclass(frozen=True)
class PerceptualConfig:
    """The frozen networks behind the terms lpips, gram and clip, for images."""

    network: str = "lite0"
    """"lite0": EfficientNet-Lite0 gives all three, with nothing to download; "vgg16": LPIPS and Gram on VGG16."""
    vgg16: str | None = None
    """torchvision's state-dict file, for network: vgg16."""
    clip: str | None = None
    """CLIP or SigLIP vision tower (folder or hub) of the clip term; without one there is no such term on vgg16."""
    size: int = 224
    """Side that pictures are resized to for these terms."""
    pictures: int | None = None
    """Most pictures of a batch that are looked at; None: all."""

    def __post_init__(self) -> None:
        if self.network not in ("lite0", "vgg16") or (self.network == "vgg16") != (self.vgg16 is not None):
            raise ValueError("train config: perceptual is network: lite0, or network: vgg16 with the path vgg16")
        if self.size < 32 or (self.pictures is not None and self.pictures < 1):
            raise ValueError("train config: perceptual needs a size of 32 or more, and pictures that are positive")


@dataclass(frozen=True)
class TextConfig:
    """The frozen text tower that embeddings are aligned with, and the teacher of image-text distillation."""

    tower: str = "all-minilm"
    """"all-minilm" (from its package), or a SigLIP2 for transformers (folder or hub), which is also the teacher."""
    classes: str | None = None
    """File with the 1,000 ImageNet labels, one a line, for the teacher beside all-minilm: the log-probabilities of an
    EfficientNet-Lite, those that come with the pictures (recipes/nano/teacher.py) or else Lite0's."""
    temperature: float = 2.0
    embed_tokens: int | None = None
    """Tokens of the pictures that the head learns from; larger ones will be scaled down to be embedded."""
    axis: str = "texts"
    """What the softmax of the distillation runs over: "texts", or "both" directions."""

    def __post_init__(self) -> None:
        if self.axis not in AXES or not 0 < self.temperature < math.inf:
            raise ValueError("train config: text needs an axis texts or both, and a positive temperature")


@dataclass(frozen=True)
class ParallelConfig:
    """How a step is computed; none of it changes what is computed, but for rounding."""

    strategy: str = "ddp"
    """Among several ranks: "ddp" (each holds everything) or "fsdp" (weights, gradients and averages are sharded)."""
    autocast: bool = True
    """bf16 matrix products."""
    checkpointing: bool = False
    """Keep only the blocks' inputs, and compute the rest again on the way back."""
    compile: bool = False
    """torch.compile of the blocks."""
    graphs: bool = False
    """Steps of reconstruction of pictures and clips as CUDA graphs, on one card: a small model's kernels are so short
    that launching them takes longer. Of crops and clips, in steps of one batch. Does nothing on the CPU."""

    def __post_init__(self) -> None:
        if self.strategy not in ("ddp", "fsdp"):
            raise ValueError(f"train config: strategy is {self.strategy!r}: give ddp or fsdp")


@dataclass(frozen=True)
class LogConfig:
    """What is written down, and how often (in steps)."""

    every: int = 50
    checkpoint_every: int = 500
    keep: int = 2
    """Checkpoints that stay, 2 or more: where the newest is damaged, the run goes on from the one before."""
    pictures: int = 6
    """Reconstructions shown with each checkpoint."""
    eval_path: str | None = None
    """Folder of photographs whose PSNR is logged with every checkpoint."""
    tensorboard: bool = True
    wandb: str | None = None
    """Project on Weights & Biases, for those who have it."""

    def __post_init__(self) -> None:
        if min(self.every, self.checkpoint_every) < 1 or self.pictures < 0:
            raise ValueError(
                "train config: every and checkpoint_every of the log must be positive, and pictures not negative"
            )
        if self.keep < 2:
            raise ValueError(f"train config: keep of the log is {self.keep}: 2 or more checkpoints must stay")


@dataclass(frozen=True)
class TrainConfig:
    """One stage."""

    model: str
    """Preset."""
    tasks: tuple[TaskConfig, ...]
    steps: int = 0
    minutes: float = 0.0
    """In place of ``steps``: as many as take so long on the machine that begins the run, evaluation and checkpoints not
    counted (train/timing.py)."""
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
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: Weights = field(default_factory=Weights)
    perceptual: PerceptualConfig | None = None
    """None: no terms lpips, gram and clip."""
    text: TextConfig = field(default_factory=TextConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    log: LogConfig = field(default_factory=LogConfig)
    ranks: int = 1
    """Processes that the token budgets are meant for; only the dry run reads it."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.model not in PRESETS:
            raise ValueError(f"train config: no preset {self.model!r}; there are {', '.join(PRESETS)}")
        if self.start not in (None, "linear", "discrete"):
            raise ValueError(f"train config: start is {self.start!r}: give linear or discrete, or leave it out")
        if (self.start == "linear" and self.init_from) or (self.start == "discrete" and not self.init_from):
            raise ValueError("train config: start: linear takes no init_from, and start: discrete needs one")
        if self.start == "discrete" and not self.quantize:
            raise ValueError("train config: start: discrete needs quantize: true")
        if not any(task.ratio for task in self.tasks):
            raise ValueError("train config: at least one task needs a ratio")
        if len({task.task for task in self.tasks}) != len(self.tasks):
            raise ValueError("train config: each task may stand there once")
        if any(task.task == HEAD_ALONE for task in self.tasks):
            if not all(part.startswith(self.frozen) for part in DECODED):
                raise ValueError("train config: 3d-gaussians keeps what is decoded: freeze encoder, proj and decoder")
            if self.parallel.strategy == "fsdp":
                raise ValueError("train config: each rank of 3d-gaussians decodes what it lacks: take strategy: ddp")
        if self.parallel.strategy == "fsdp" and self.optimizer.muon_lr is not None:
            raise ValueError("train config: muon needs whole matrices: take strategy: ddp, or leave muon_lr out")
        varied = [task.task for task in self.tasks if task.shards is not None]
        if self.parallel.graphs and {"image-reconstruction", "video-reconstruction"} & {*varied}:
            raise ValueError(
                "train config: shards have pictures and clips of ever other sizes, each of which would be a graph of "
                "its own: leave graphs out, or take crops or clips"
            )
        if self.ranks < 1 or self.seed < 0:
            raise ValueError("train config: ranks must be positive, and seed not negative")
        if (
            min(self.steps, self.minutes) < 0
            or not math.isfinite(self.minutes)
            or bool(self.steps) == bool(self.minutes)
        ):
            raise ValueError("train config: give either steps or minutes, as a positive number")
        down = self.optimizer.decay if self.optimizer.schedule == "linear" else 0
        if self.steps and self.optimizer.warmup + down > self.steps:
            raise ValueError(
                f"train config: warmup and decay together, {self.optimizer.warmup + down} steps, are longer than the "
                f"run of {self.steps}"
            )

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
        if not any(task.task == "image-text" for task in self.tasks):  # distillation has a scale of its own
            config = replace(config, logit_scale=START_LOG_SCALE, logit_bias=START_BIAS)
        return config


MOST_BYTES = 1 << 20
"""Of a recipe: PyYAML takes some ten seconds for as much."""


def read_config(path: Path, *, allow_commands: bool = False) -> TrainConfig:
    """Read a YAML file (needs the extra ``train``).

    Raises ``FileNotFoundError``, or ``ValueError`` in one sentence that names the file, and the key where it is about
    one; also where its shards would run a program, unless ``allow_commands``: a recipe from elsewhere runs nothing.
    """
    if path.stat().st_size > MOST_BYTES:
        raise ReadError(f"{path} has {path.stat().st_size / 1e6:.1f} MB, which no recipe needs: give a YAML file")
    with reading(path, "mend or replace it"):
        values = _parsed(path)
    try:
        config = from_mapping(TrainConfig, values, where=str(path))
    except (ValueError, TypeError, RecursionError) as error:
        reason = str(error).removeprefix("train config: ")
        raise ReadError(reason if str(path) in reason else f"{path}: {shortened(reason, 400)}") from error
    if not allow_commands:
        for task in config.tasks:
            if commands := [name for name in (task.shards.shards if task.shards else ()) if is_command(name)]:
                raise ReadError(
                    f"{path}: shards {shortened(commands[0])!r} of {task.task} would run a program: where you trust "
                    "the recipe, say --allow-commands"
                )
    return config


def _parsed(path: Path) -> Any:
    """The values of a YAML file. Raises ``ReadError``, and whatever PyYAML does."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Takes 3e-4 for a number, as YAML 1.2 does, and a key given twice for a mistake."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            if not isinstance(node, yaml.MappingNode):
                raise yaml.constructor.ConstructorError(None, None, "expected a table of keys", node.start_mark)
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if "<<" in keys:  # a few lines of them become millions of keys
                raise yaml.constructor.ConstructorError(None, None, "keys cannot be merged with <<", node.start_mark)
            if twice := [key for key, count in Counter(keys).items() if count > 1]:
                raise yaml.constructor.ConstructorError(None, None, f"key {twice[0]!r} is given twice", node.start_mark)
            return super().construct_mapping(node, deep)

    number = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    try:
        return yaml.load(read_regular(path).decode("utf-8-sig"), Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ReadError(f"{path} is not YAML: {shortened(error, 400)}") from error
