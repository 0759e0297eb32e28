"""Model architecture as data: one frozen dataclass, four presets, and nothing that a typo can slip through."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.mapping import from_mapping
from ..core.text import shortened
from ..tokens.patch import KINDS, PATCH

LARGEST_SIZES = {
    **dict.fromkeys(("encoder_depth", "decoder_depth", "depth"), 1000),
    **dict.fromkeys(("table_size", "resolution", "window"), 1024),
    **dict.fromkeys(("per_voxel", "neighbours"), 256),
}
LARGEST_SIZE = 2**20
"""Largest values of the integers of a config, by name and of all others: far above what anyone trains, and so small
that no size of a tensor overflows, and that a model of any config is laid out, without its numbers, in seconds."""


def _check_sizes(config: Any, where: str) -> None:
    """Raise ``ValueError`` for an integer that no model has."""
    for name, value in vars(config).items():
        most = LARGEST_SIZES.get(name, LARGEST_SIZE)
        if type(value) is int and value > most:
            raise ValueError(f"{where}{name} must be at most {most}, not {shortened(value)}")


@dataclass(frozen=True)
class GaussianConfig:
    """Architecture of the head that turns decoded voxels into Gaussians; the defaults are the released one.

    Raises ``ValueError`` where the numbers do not fit each other.
    """

    width: int = 768
    heads: int = 12
    depth: int = 12
    mlp_width: int = 3072
    per_voxel: int = 32
    """Gaussians of each voxel."""
    resolution: int = 64
    """Voxels along an edge of the unit cube."""
    window: int = 8
    """Voxels along an edge of the cubes that attention is confined to; odd blocks shift them by half of it."""
    scale: float = 4e-3
    """Standard deviation of a Gaussian whose scale output is zero, in edges of the unit cube."""
    opacity: float = 0.1
    """Opacity of a Gaussian whose opacity output is zero."""
    neighbours: int = 0
    """How far each voxel is told which others around it are occupied, in voxels along each axis: what shows the way its
    surface runs. Released heads know it by attention alone."""
    residual: bool = False
    """Whether colours count from the mean of the voxel's decoded patch, so that a head that has learnt nothing shows
    coloured balls; released heads count them from grey."""

    def __post_init__(self) -> None:
        _check_sizes(self, "gaussians: ")
        for name, value in vars(self).items():
            if name not in ("neighbours", "residual") and value <= 0:
                raise ValueError(f"gaussians: {name} must be positive, not {value}")
        if self.neighbours < 0:
            raise ValueError(f"gaussians: neighbours must be 0 or more, not {self.neighbours}")
        if self.width % self.heads or self.width < 6:
            raise ValueError(f"gaussians: width {self.width} must be at least 6 and divide into {self.heads} heads")
        if self.opacity >= 1:
            raise ValueError(f"gaussians: opacity must be below 1, not {self.opacity}")
        if self.window % 2:
            raise ValueError(f"gaussians: window {self.window} must be even, as it is shifted by half")


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of a tokenizer; encoder and decoder share width, heads and MLP width.

    Raises ``ValueError`` where the numbers do not fit each other.
    """

    name: str
    width: int
    heads: int
    encoder_depth: int
    decoder_depth: int
    mlp_width: int
    latent_channels: int = 48
    kinds: tuple[str, ...] = ("continuous",)
    """Token kinds the weights were trained for; the first is what ``encode`` makes unless told otherwise."""
    fsq_levels: tuple[tuple[int, ...], ...] = ((4,) * 6,) * 8
    """Levels of each quantized number, one tuple for each code: eight codes of 4**6 = 4096 (paper section 3.3)."""
    table_size: int = 16
    """Rows and columns of the learned position table."""
    encoder_tile: int = 4
    """Latent time steps that the encoder sees together (4 steps are 16 frames)."""
    decoder_tile: int = 4
    decoder_cache: int = 0
    """Latent time steps of keys and values that the decoder keeps from the tile before."""
    spatial_tile: int | None = None
    """Side in pixels of the tiles that large pictures and frames are encoded in unless asked otherwise; none: whole."""
    latent_norm: bool = True
    """Whether the latent projection reads the normalised tokens, as in the released models."""
    output_norm: bool = True
    """Whether the decoder normalises before its output layer, as in the released models."""
    gelu: str = "tanh"
    """Approximation of the blocks' GELUs, as ``torch.nn.GELU`` names it: "tanh" in the released models; "none" is as
    good and takes a third of the time in training on a CPU."""
    rope: bool = True
    """4D rotary positions in every block. Without them the encoder is SigLIP2's vision tower (train/siglip.py)."""
    embed_dim: int | None = None
    """Numbers of an embedding: a matrix after the pooling head; none, and ``width`` numbers, unless given."""
    embed_tokens: int | None = None
    """Pictures are scaled down to this many tokens or fewer before they are embedded, as they were when the head
    learnt; none leaves them as they are."""
    text_tower: str | None = None
    """Whose text embeddings the pictures' are aligned with, as ``atoken.text`` names it; none means not aligned."""
    logit_scale: float = 4.8438
    """Natural logarithm of what cosines are multiplied with; the default is that of the released models. Training with
    pairs of pictures and captions ends with what the sigmoid loss has learnt."""
    logit_bias: float = -15.5625
    """What is added then, before a sigmoid."""
    gaussians: GaussianConfig | None = None
    """The head for 3D; a model without one decodes images and videos only."""

    def __post_init__(self) -> None:
        _check_sizes(self, self._where)
        for field in (
            *("width", "heads", "encoder_depth", "decoder_depth", "mlp_width", "latent_channels"),
            *("table_size", "encoder_tile", "decoder_tile"),
        ):
            self._require(getattr(self, field) > 0, f"{field} must be positive, not {getattr(self, field)}")
        self._require(
            self.width % self.heads == 0 and self.head_dim % 8 == 0,
            f"width {self.width} must be {self.heads} heads of a multiple of 8 (four rotary axes of pairs)",
        )
        self._require(
            len(self.kinds) > 0 and set(self.kinds) <= set(KINDS) and len(set(self.kinds)) == len(self.kinds),
            f"kinds {shortened(self.kinds)} must name some of {KINDS}, each once",
        )
        self._require(
            "discrete" not in self.kinds or self.latent_channels == sum(map(len, self.fsq_levels)),
            f"fsq_levels quantize {sum(map(len, self.fsq_levels))} numbers, latent_channels are {self.latent_channels}",
        )
        self._require(
            all(group and min(group) >= 2 and math.prod(group) <= 65536 for group in self.fsq_levels),
            f"fsq_levels {shortened(self.fsq_levels)} must be at least 2, and give at most 65536 codes a group",
        )
        self._require(self.gelu in ("tanh", "none"), f"gelu must be tanh or none, not {shortened(self.gelu)!r}")
        for field in ("embed_dim", "embed_tokens", "spatial_tile"):
            value = getattr(self, field)
            self._require(value is None or value > 0, f"{field} must be positive, not {value}")
        self._require((self.spatial_tile or 0) % PATCH[1] == 0, f"spatial_tile must be a multiple of {PATCH[1]} pixels")
        self._require(
            0 <= self.decoder_cache <= self.decoder_tile,
            f"decoder_cache {self.decoder_cache} must lie between 0 and decoder_tile {self.decoder_tile}",
        )

    @property
    def _where(self) -> str:
        return f"model config {shortened(self.name)!r}: "

    def _require(self, holds: bool, sentence: str) -> None:
        if not holds:
            raise ValueError(f"{self._where}{sentence}")

    def check_kind(self, kind: str) -> None:
        """Raise ``ValueError`` unless the weights were trained for tokens of ``kind``."""
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}: give {' or '.join(map(repr, KINDS))}")
        if kind not in self.kinds:
            known = " and ".join(self.kinds)
            raise ValueError(f"the weights of {self.name!r} were trained for {known} tokens, not {kind!r}")

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.width // self.heads

    def to_dict(self) -> dict[str, Any]:
        """The config as JSON-ready values."""
        return {key: _plain(value) for key, value in vars(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """The inverse of ``to_dict``. Raises ``ValueError`` for an unknown or missing key or a wrong type."""
        return from_mapping(cls, values, where="model config")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {key: _plain(item) for key, item in vars(value).items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


PRESETS: dict[str, ModelConfig] = {
    config.name: config
    for config in (
        ModelConfig(
            "tiny", width=64, heads=2, encoder_depth=2, decoder_depth=2, mlp_width=128, kinds=("continuous", "discrete")
        ),
        ModelConfig(
            "nano",
            width=256,
            heads=4,
            encoder_depth=6,
            decoder_depth=11,
            mlp_width=768,
            latent_norm=False,
            output_norm=False,
            gelu="none",
        ),
        ModelConfig("base", width=768, heads=12, encoder_depth=12, decoder_depth=12, mlp_width=3072),
        ModelConfig("so400m", width=1152, heads=16, encoder_depth=27, decoder_depth=27, mlp_width=4304),
    )
}
