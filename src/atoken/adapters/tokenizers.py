"""The interfaces that trainers of generators call: LightningDiT's tokenizer, and codes for autoregressive models."""

from __future__ import annotations

import random
from collections.abc import Callable
from os import PathLike

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..media.image.crop import adm_crop
from ..media.image.files import read_image
from ..media.pixels import from_uint8, to_uint8
from ..tokenizer.net import TokenizerNet
from ..weights.load import load
from . import dense

Source = TokenizerNet | str | PathLike[str]
"""A model, or what ``atoken.load`` takes."""


def model_of(source: Source) -> TokenizerNet:
    """The model itself, or the one that ``atoken.load`` finds."""
    return source if isinstance(source, TokenizerNet) else load(source)


class LatentTokenizer:
    """LightningDiT's tokenizer (VA_VAE in its tokenizer/vavae.py): pictures of one size to latents and back.

    Raises ``ValueError`` for a model of discrete tokens.
    """

    def __init__(self, source: Source, img_size: int = 256, horizon_flip: float = 0.5) -> None:
        self.model = model_of(source)
        self.model.config.check_kind("continuous")
        self.img_size, self.horizon_flip = img_size, horizon_flip

    def img_transform(
        self, p_hflip: float | None = None, img_size: int | None = None
    ) -> Callable[[Image.Image], Tensor]:
        """PIL image -> fp32 [3, S, S] in [-1, 1]: ADM's centre crop, mirrored with probability ``p_hflip``."""
        flip = self.horizon_flip if p_hflip is None else p_hflip
        size = img_size or self.img_size

        def transform(image: Image.Image) -> Tensor:
            pixels = from_uint8(torch.tensor(adm_crop(read_image(image), size)).permute(2, 0, 1))
            return pixels.flip(-1) if random.random() < flip else pixels

        return transform

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in [-1, 1] -> latents fp32 [B, C, h, w]: a draw of the posterior."""
        moments = dense.encode(self.model, images.to(self.model.device), self.model.config.spatial_tile)
        return dense.sample(moments)

    @torch.no_grad()
    def decode_to_images(self, z: Tensor) -> np.ndarray:
        """Latents [B, C, h, w] -> uint8 [B, H, W, 3]."""
        pixels = dense.decode(self.model, z.to(self.model.device), self.model.config.spatial_tile)
        return to_uint8(pixels).permute(0, 2, 3, 1).contiguous().cpu().numpy()


class CodeTokenizer(nn.Module):
    """Pictures and clips of one size to codes and back: ``vocab_size``, ``num_codebooks``, ``encode``, ``decode``.

    Raises ``ValueError`` for a model of continuous tokens.
    """

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.model = model_of(source)
        self.codebook_sizes = self.model.vocab_size
        """Codes of each codebook."""
        self.vocab_size = max(self.codebook_sizes)
        self.num_codebooks = len(self.codebook_sizes)
        self.downsample = 16

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] or [B, 3, T, H, W] in [-1, 1] -> int64 [B, G, (t,) h, w], each from 0 on.

        Raises ``ValueError`` for sides that are no whole patches.
        """
        moments = dense.encode(self.model, pixels.to(self.model.device), self.model.config.spatial_tile)
        return dense.codes(self.model, moments)[1]

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """The inverse: int [B, G, (t,) h, w] -> fp32 [B, 3, (4 t,) H, W], clipped to [-1, 1].

        Raises ``ValueError`` for a code outside of its codebook.
        """
        latents = dense.codes_of(self.model, codes.to(self.model.device))
        return dense.decode(self.model, latents, self.model.config.spatial_tile).float().clamp(-1, 1)
