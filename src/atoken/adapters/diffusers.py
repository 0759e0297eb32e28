"""AToken as an autoencoder of diffusers: ``encode(x).latent_dist``, ``decode(z).sample``, inside its pipelines."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

try:
    from diffusers import ConfigMixin, ModelMixin
    from diffusers.configuration_utils import FrozenDict, register_to_config
    from diffusers.models.autoencoders.vae import (
        AutoencoderMixin,
        DecoderOutput,
        DiagonalGaussianDistribution,
        IdentityDistribution,
    )
    from diffusers.utils import BaseOutput
    from diffusers.utils.accelerate_utils import apply_forward_hook
except ImportError:
    raise ImportError("atoken.adapters.diffusers needs: pip install 'atoken[diffusers]'") from None

from ..core.errors import ReadError, reading
from ..core.regular import read_regular
from ..core.text import shortened
from ..tokenizer.config import ModelConfig
from ..tokenizer.net import TokenizerNet
from ..tokens.patch import PATCH
from ..weights.files import CONFIG
from ..weights.load import CHECKPOINTS, list_models, load
from . import dense

DOWNSAMPLINGS = 4
"""Halvings of each side of a picture: pipelines count them as ``len(block_out_channels) - 1``."""


@dataclass
class ATokenEncoderOutput(BaseOutput):
    """What ``encode`` gives."""

    latent_dist: DiagonalGaussianDistribution | IdentityDistribution
    """``.sample()`` and ``.mode()`` are latents [B, C, (t,) h, w]; both are the codes of a discrete model."""
    indices: Tensor | None = None
    """int64 [B, G, (t,) h, w] of a discrete model."""


class AutoencoderAToken(ModelMixin, AutoencoderMixin, ConfigMixin):
    """Pictures [B, 3, H, W] and clips [B, 3, T, H, W] in [-1, 1] to latents and back.

    A side of a picture shrinks 16 times, and four frames are one latent frame: T frames have ceil(T / 4), the last of
    them filled with the last frame, and t latent frames decode to 4 t. There is no first frame of its own, so pipelines
    that count 4 n + 1 frames (Wan) get 4 n + 4, of which the last three continue the clip.

    Args:
        architecture: ``ModelConfig.to_dict()``.
        kind: "continuous" or "discrete"; by default the first of the architecture's kinds.
        latents_mean: Mean of each channel, which pipelines subtract; 0 where it is not known.
        latents_std: Deviation of each channel, by which they divide; 1 where it is not known.
        scaling_factor: One number in their place, for pipelines and training scripts that know of no other.
        shift_factor: What such scripts subtract before.

    Raises:
        ValueError: for numbers that do not fit each other.
    """

    @register_to_config
    def __init__(
        self,
        architecture: dict[str, Any],
        kind: str | None = None,
        latents_mean: list[float] | None = None,
        latents_std: list[float] | None = None,
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__()
        config = ModelConfig.from_dict(architecture)
        config.check_kind(kind or config.kinds[0])
        for name, numbers in (("latents_mean", latents_mean), ("latents_std", latents_std)):
            if numbers is not None and len(numbers) != config.latent_channels:
                raise ValueError(f"{name} has {len(numbers)} numbers, and latents {config.latent_channels} channels")
        self.net = TokenizerNet(config)
        self.kind = kind or config.kinds[0]
        self.use_slicing = False
        self.use_tiling = config.spatial_tile is not None
        self.tile_sample_min_size = config.spatial_tile or 256
        self.spatial_compression_ratio, self.temporal_compression_ratio = PATCH[1], PATCH[0]
        self.temperal_downsample = [False, False, True, True]  # as Wan and QwenImage spell and read it

    @property
    def config(self) -> FrozenDict:
        """What was registered, and what pipelines read besides; only the former is saved."""
        own = self._internal_dict
        if "architecture" not in own:
            return own
        channels = own["architecture"]["latent_channels"]
        return FrozenDict(
            {
                **own,
                "latents_mean": own["latents_mean"] or [0.0] * channels,
                "latents_std": own["latents_std"] or [1.0] * channels,
                "in_channels": 3,
                "out_channels": 3,
                "latent_channels": channels,
                "z_dim": channels,
                "block_out_channels": (own["architecture"]["width"],) * (DOWNSAMPLINGS + 1),
                "force_upcast": False,
                "scale_factor_spatial": PATCH[1],
                "scale_factor_temporal": PATCH[0],
                "spatial_compression_ratio": PATCH[1],
                "temporal_compression_ratio": PATCH[0],
            }
        )

    @classmethod
    def from_model(cls, model: TokenizerNet, **options: Any) -> AutoencoderAToken:
        """With the weights of ``model`` (they are shared) and its statistics of latents, where it knows them.

        ``options`` are those of the class but for the architecture.
        """
        stats, kinds = model.latent_stats, model.config.kinds
        if stats is not None and options.get("kind", kinds[0]) == "continuous":
            options = {"latents_mean": list(stats.mean), "latents_std": list(stats.std), **options}
        with torch.device("meta"):
            autoencoder = cls(model.config.to_dict(), **options)
        autoencoder.net = model
        return autoencoder.eval()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **options: Any) -> Any:
        """From a folder of ``save_pretrained``, or what ``atoken.load`` takes: a shipped name, a folder, a checkpoint.

        Options are those of diffusers for the former, and ``torch_dtype`` and those of the class for the latter. Other
        names are taken for repositories of diffusers on the hub. Raises ``ReadError`` where tensors are missing.
        """
        name = str(pretrained_model_name_or_path)
        folder = Path(name, options.get("subfolder") or "")
        if name in list_models() or folder.suffix in CHECKPOINTS or _class_of(folder) == "":
            options.pop("subfolder", None)
            model = load(
                name if name in list_models() else folder, dtype=options.pop("torch_dtype", None), device="cpu"
            )
            return cls.from_model(model, **options)
        if _class_of(folder) not in (None, cls.__name__):
            raise ReadError(f"{folder} holds a {_class_of(folder)} of diffusers, not an {cls.__name__}")
        wanted = options.pop("output_loading_info", False)
        model, loaded = super().from_pretrained(name, output_loading_info=True, **options)
        if loaded["missing_keys"]:
            raise ReadError(f"the weights in {folder} lack {loaded['missing_keys'][0]}")
        return (model, loaded) if wanted else model

    @property
    def _tile(self) -> int | None:
        return self.tile_sample_min_size if self.use_tiling else None

    @apply_forward_hook
    def encode(self, x: Tensor, return_dict: bool = True) -> Any:
        """``ATokenEncoderOutput`` of pixels [B, 3, (T,) H, W]; without ``return_dict`` its fields in a tuple.

        Raises ``ValueError`` for sides that are no multiples of 16.
        """
        parts = x.split(1) if self.use_slicing else [x]
        moments = torch.cat([dense.encode(self.net, part, self._tile) for part in parts])
        if self.kind == "continuous":
            distribution, indices = DiagonalGaussianDistribution(moments.to(self.dtype)), None
        else:
            codes, indices = dense.codes(self.net, moments)
            distribution = IdentityDistribution(codes.to(self.dtype))
        if not return_dict:
            return (distribution,) if indices is None else (distribution, indices)
        return ATokenEncoderOutput(latent_dist=distribution, indices=indices)

    @apply_forward_hook
    def decode(
        self,
        z: Tensor,
        decode_from_indices: bool = False,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ) -> Any:
        """``DecoderOutput``, whose ``sample`` is [B, 3, H, W] or [B, 3, 4 t, H, W], nominally in [-1, 1].

        z: latents or codes as ``encode`` gives them, or indices with ``decode_from_indices``. ``generator`` has no use.
        """
        latents = dense.codes_of(self.net, z) if decode_from_indices else z
        parts = latents.split(1) if self.use_slicing else [latents]
        sample = torch.cat([dense.decode(self.net, part, self._tile) for part in parts]).to(self.dtype)
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def forward(
        self,
        sample: Tensor,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ) -> Any:
        """``decode(encode(sample))``, of a draw with ``sample_posterior``."""
        posterior = self.encode(sample).latent_dist
        z = posterior.sample(generator=generator) if sample_posterior else posterior.mode()
        return self.decode(z, return_dict=return_dict)


def _class_of(folder: Path) -> str | None:
    """The class of diffusers that a folder holds: "" where it is none of theirs, None where there is no folder."""
    path = folder / CONFIG
    if not path.is_file():
        return None
    with reading(path):
        return shortened(json.loads(read_regular(path)).get("_class_name", ""))
