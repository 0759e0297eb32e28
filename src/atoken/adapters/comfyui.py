"""AToken as a VAE of ComfyUI, and the node that loads it; recipes/comfyui is the folder to copy.

The object has the attributes and calls of ``comfy.sd.VAE``, pixels channels last in [0, 1], and does not need ComfyUI.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..tokenizer.net import TokenizerNet
from ..tokens.patch import PATCH
from . import dense
from .tokenizers import Source, model_of

SIDE = PATCH[1]
TILE = 512
"""Pixels along a side of the tiles that nodes ask for unless told otherwise."""


class FirstStage(nn.Module):
    """The network on tensors: pixels [B, 3, (T,) H, W] in [-1, 1] to latents [B, C, (t,) h, w] and back."""

    def __init__(self, net: TokenizerNet, kind: str) -> None:
        super().__init__()
        self.net, self.kind = net, kind

    def encode(self, pixels: Tensor, tile: int | None = None) -> Tensor:
        """The posterior's mean, or FSQ codes of a discrete model."""
        moments = dense.encode(self.net, pixels, tile)
        return dense.codes(self.net, moments)[0] if self.kind == "discrete" else moments.chunk(2, 1)[0]

    def decode(self, latents: Tensor, tile: int | None = None) -> Tensor:
        """Pixels, nominally in [-1, 1]."""
        return dense.decode(self.net, latents, tile)


class ATokenVAE:
    """What ComfyUI's nodes take for a VAE.

    Args:
        source: A model, or what ``atoken.load`` takes.
        kind: "continuous" or "discrete"; by default the first of the model's kinds.
        video: Whether a batch of pictures is one clip, as for ComfyUI's video models: latents are then
            [B, C, t, h, w] of four frames each.

    Raises:
        ValueError: for a kind that the model does not have.
    """

    output_channels = 3
    extra_1d_channel = None
    size = None
    disable_offload = False
    crop_input = True

    def __init__(self, source: Source, kind: str | None = None, video: bool = False) -> None:
        net = model_of(source)
        kind = kind or net.config.kinds[0]
        net.config.check_kind(kind)
        self.first_stage_model = FirstStage(net, kind).eval()
        self.patcher: Any = None
        """``comfy.model_patcher.ModelPatcher``, which the loader node adds."""
        self.tile = net.config.spatial_tile
        self.device = self.output_device = net.device
        self.vae_dtype = net.proj.weight.dtype
        self.working_dtypes = [torch.bfloat16, torch.float32]
        self.latent_channels = net.config.latent_channels
        self.not_video = not video
        self.latent_dim = 3 if video else 2
        self.upscale_ratio: Any = (lambda steps: PATCH[0] * steps, SIDE, SIDE) if video else SIDE
        self.downscale_ratio: Any = (lambda frames: math.ceil(frames / PATCH[0]), SIDE, SIDE) if video else SIDE
        self.upscale_index_formula = self.downscale_index_formula = (PATCH[0], SIDE, SIDE) if video else None

    @staticmethod
    def process_input(image: Tensor) -> Tensor:
        """[0, 1] -> [-1, 1]."""
        return image * 2 - 1

    @staticmethod
    def process_output(image: Tensor) -> Tensor:
        """[-1, 1] -> [0, 1], clipped."""
        return ((image + 1) / 2).clamp(0, 1)

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels [B, H, W, 3] in [0, 1], of video one clip [T, H, W, 3] or clips [B, T, H, W, 3] -> latents.

        The middle is taken where the sides are no multiples of 16. Channels after the third are left out.
        """
        return self._encode(pixels, self.tile)

    def encode_tiled(
        self, pixels: Tensor, tile_x: int | None = None, tile_y: int | None = None, overlap: Any = None, **_: Any
    ) -> Tensor:
        """``encode`` in tiles of about that many pixels; they do not overlap."""
        return self._encode(pixels, _tile(tile_x, tile_y, 1))

    def decode(self, samples_in: Tensor, vae_options: Any = None) -> Tensor:
        """Latents [B, C, h, w] or [B, C, t, h, w] -> pixels [B, H, W, 3] or [B, 4 t, H, W, 3] in [0, 1] on the CPU."""
        return self._decode(samples_in, self.tile)

    def decode_tiled(
        self, samples: Tensor, tile_x: int | None = None, tile_y: int | None = None, overlap: Any = None, **_: Any
    ) -> Tensor:
        """``decode`` in tiles of about that many latents a side; each sees one more around it."""
        return self._decode(samples, _tile(tile_x, tile_y, SIDE))

    @torch.no_grad()
    def _encode(self, pixels: Tensor, tile: int | None) -> Tensor:
        frames = self._crop(pixels[..., :3].float())
        if self.latent_dim == 3 and frames.ndim == 4:
            frames = frames[None]
        x = self.process_input(frames.movedim(-1, 1)).to(self.device)
        self._load(self.memory_used_encode(x.shape, self.vae_dtype))
        return self.first_stage_model.encode(x, tile).float().to(self.output_device)

    @torch.no_grad()
    def _decode(self, samples: Tensor, tile: int | None) -> Tensor:
        self._load(self.memory_used_decode(samples.shape, self.vae_dtype))
        pixels = self.first_stage_model.decode(samples.to(self.device), tile)
        return self.process_output(pixels.float()).movedim(1, -1).cpu()

    def _load(self, memory: int) -> None:
        """Let ComfyUI bring the weights to the device, where it manages them."""
        if self.patcher is not None:
            from comfy import model_management

            model_management.load_models_gpu([self.patcher], memory_required=memory)

    def _crop(self, pixels: Tensor) -> Tensor:
        if not self.crop_input:
            return pixels
        (top, height), (left, width) = (
            ((side % SIDE) // 2, side // SIDE * SIDE) for side in (pixels.shape[-3], pixels.shape[-2])
        )
        return pixels[..., top : top + height, left : left + width, :]

    def spacial_compression_encode(self) -> int:
        """Pixels along a side of a latent."""
        return SIDE

    spacial_compression_decode = spacial_compression_encode

    def temporal_compression_decode(self) -> int | None:
        """Frames of a latent; None for pictures."""
        return None if self.latent_dim == 2 else PATCH[0]

    def memory_used_encode(self, shape: Sequence[int], dtype: torch.dtype) -> int:
        """Bytes to encode pixels [B, 3, (T,) H, W]: those of the widest layer's activations, several times."""
        tokens = math.prod(shape[2:]) // (SIDE * SIDE) // (PATCH[0] if len(shape) == 5 else 1)
        return self._memory(shape[0] * max(tokens, 1), dtype)

    def memory_used_decode(self, shape: Sequence[int], dtype: torch.dtype) -> int:
        """Bytes to decode latents [B, C, (t,) h, w]."""
        return self._memory(shape[0] * math.prod(shape[2:]), dtype)

    def _memory(self, tokens: int, dtype: torch.dtype) -> int:
        config = self.first_stage_model.net.config
        return tokens * (8 * config.width + 2 * config.mlp_width + PATCH[0] * SIDE * SIDE * 3) * dtype.itemsize

    def get_sd(self) -> dict[str, Tensor]:
        """The weights by name."""
        return self.first_stage_model.net.state_dict()

    def throw_exception_if_invalid(self) -> None:
        """Does nothing: what is no model is refused when it is loaded."""


def _tile(tile_x: int | None, tile_y: int | None, side: int) -> int:
    """Pixels of the smaller of both, given in units of ``side`` pixels."""
    pixels = min(tile_x or TILE // side, tile_y or TILE // side) * side
    return max(SIDE, pixels // SIDE * SIDE)


class ATokenLoader:
    """The node that loads a tokenizer."""

    RETURN_TYPES = ("VAE",)
    FUNCTION = "load"
    CATEGORY = "loaders"
    DESCRIPTION = "Loads an AToken model: a shipped name (nano), a model folder or a released checkpoint."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Inputs of the node."""
        return {
            "required": {
                "source": ("STRING", {"default": "nano"}),
                "kind": (["model's own", "continuous", "discrete"],),
                "video": ("BOOLEAN", {"default": False}),
            }
        }

    def load(self, source: str, kind: str, video: bool) -> tuple[ATokenVAE]:
        """The VAE, under ComfyUI's memory management where it runs inside it."""
        vae = ATokenVAE(source, None if kind == "model's own" else kind, video)
        try:
            from comfy import model_management
            from comfy.model_patcher import ModelPatcher
        except ImportError:
            return (vae,)
        vae.device, vae.output_device = model_management.vae_device(), model_management.intermediate_device()
        vae.first_stage_model.to(vae.device)
        offload = model_management.vae_offload_device()
        vae.patcher = ModelPatcher(vae.first_stage_model, load_device=vae.device, offload_device=offload)
        return (vae,)


NODE_CLASS_MAPPINGS = {"ATokenLoader": ATokenLoader}
NODE_DISPLAY_NAME_MAPPINGS = {"ATokenLoader": "Load AToken"}
