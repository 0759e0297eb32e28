"""A training run as data, read from YAML; an unknown key or a wrong type raises."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..config import PRESETS, ModelConfig, from_mapping


@dataclass(frozen=True)
class DataConfig:
    """Random square crops of pictures."""

    path: str
    """Folder with ``train.bin`` and ``train.json`` (recipes/nano/data.py writes them)."""
    crop_sizes: tuple[int, ...] = (128,)
    """Sides in pixels, multiples of 16; each step draws one."""
    crop_shares: tuple[float, ...] = (1.0,)
    """How often each size is drawn."""
    flat_below: float = 8.0
    """Crops whose grey levels deviate less than this (of 255) are drawn anew, three times in four."""


@dataclass(frozen=True)
class OptimizerConfig:
    """Muon on the matrices of the blocks, AdamW on everything else."""

    muon_lr: float = 0.02
    adamw_lr: float = 5e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    warmup: int = 100
    """Steps of linear warm-up."""
    decay: int = 0
    """Last steps, over which the rate falls linearly to zero."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.999


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms; all are means (per pixel, per picture, per token)."""

    l1: float = 1.0
    log_mse: float = 0.1
    kl: float = 1e-8


@dataclass(frozen=True)
class TrainConfig:
    """One run."""

    model: str
    steps: int
    tokens_per_step: int
    data: DataConfig
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    linear_start: bool = True
    """Start as the best linear autoencoder of the data's patches."""
    autocast: bool = True
    """bf16 matrix products."""
    seed: int = 0
    eval_path: str | None = None
    """Folder of photographs whose PSNR is logged with every checkpoint."""
    log_every: int = 50
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        data = self.data
        if self.model not in PRESETS:
            raise ValueError(f"train config: no preset {self.model!r}; there are {', '.join(PRESETS)}")
        if len(data.crop_sizes) != len(data.crop_shares) or any(size % 16 or size <= 0 for size in data.crop_sizes):
            raise ValueError("train config: crop_sizes need one share each and must be multiples of 16")
        if self.optimizer.warmup + self.optimizer.decay > self.steps:
            raise ValueError("train config: warmup and decay together are longer than the run")

    @property
    def model_config(self) -> ModelConfig:
        """The preset that the run trains."""
        return PRESETS[self.model]


def read_config(path: Path) -> TrainConfig:
    """Read a YAML file (needs the extra ``train``). Raises ``ValueError`` or ``FileNotFoundError``."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    return from_mapping(TrainConfig, values, where=str(path))
