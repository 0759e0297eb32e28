"""Other tokenizers beside AToken: the adapter to write, and the one for diffusers' AutoencoderKL family."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import reading
from ..core.text import shortened


class Tokenizer(Protocol):
    """What an adapter needs; ``encode`` and ``decode`` see batches of pictures of one size, on the run's device."""

    name: str

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels fp32 [B, 3, H, W] in [-1, 1], any H and W -> latents [B, ...]."""

    def decode(self, latents: Tensor, size: tuple[int, int]) -> Tensor:
        """Latents, rounded to fp16 on the way -> pixels [B, 3, H, W] of ``size`` (H, W), nominally in [-1, 1]."""

    def describe(self) -> dict[str, Any]:
        """Model, weights and settings as JSON-ready values."""


class KLAutoencoder:
    """diffusers' AutoencoderKL: the image tokenizers of Stable Diffusion 1 to 3 and FLUX.

    The posterior's mean is kept. Pictures are padded to the model's stride by repeating the last row and column, and
    cropped back.
    """

    def __init__(self, module: Any, name: str) -> None:
        self.module, self.name = module.eval(), name
        self.stride = 2 ** (len(module.config.block_out_channels) - 1)

    @classmethod
    def load(cls, folder: str | Path, device: str, dtype: torch.dtype) -> KLAutoencoder:
        """From a folder in diffusers' layout (config.json beside its weights).

        Raises ``ValueError`` where diffusers is missing, the folder holds another class, or its weights are not all
        there (diffusers fills gaps with random numbers); ``FileNotFoundError`` where the folder is missing.
        """
        try:
            from diffusers import AutoencoderKL
        except ImportError:
            raise ValueError("a diffusers tokenizer needs: pip install 'atoken[diffusers]'") from None
        folder = Path(folder).absolute()
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{folder} is not a folder of diffusers: it has no config.json")
        with reading(folder):
            found = AutoencoderKL.load_config(folder, local_files_only=True).get("_class_name")
        if found != "AutoencoderKL":
            raise ValueError(f"{folder} holds a {shortened(found)} of diffusers, not an AutoencoderKL")
        with reading(folder):
            module, loaded = AutoencoderKL.from_pretrained(
                folder, local_files_only=True, torch_dtype=dtype, low_cpu_mem_usage=False, output_loading_info=True
            )
        if loaded["missing_keys"]:
            raise ValueError(f"the weights in {folder} lack {loaded['missing_keys'][0]}")
        return cls(module.to(device), folder.name)

    def encode(self, pixels: Tensor) -> Tensor:
        """Latents [B, C, H / stride, W / stride]."""
        height, width = pixels.shape[-2:]
        padding = (0, -width % self.stride, 0, -height % self.stride)
        padded = F.pad(pixels, padding, mode="replicate").to(self.module.dtype)
        latents: Tensor = self.module.encode(padded).latent_dist.mode()
        return latents

    def decode(self, latents: Tensor, size: tuple[int, int]) -> Tensor:
        """Pixels [B, 3, H, W] of ``size`` (H, W): what was padded is cut off."""
        pixels: Tensor = self.module.decode(latents.to(self.module.dtype)).sample
        return pixels[..., : size[0], : size[1]]

    def describe(self) -> dict[str, Any]:
        """Class, weights and shape of the latents."""
        from ..tokenizer.identity import fingerprint

        config = self.module.config
        return {
            "model": type(self.module).__name__,
            "sha256": fingerprint(self.module.state_dict()),
            "latent_channels": config.latent_channels,
            "stride": self.stride,
            "dtype": str(self.module.dtype).removeprefix("torch."),
            "posterior": "mean",
        }
