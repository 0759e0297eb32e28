"""CLIP, SigLIP and SigLIP2 vision towers through transformers, from a folder or the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..media.patchify import patchify
from ..tokenizer.identity import fingerprint
from .network import FrozenNetwork
from .transformers import pretrained, read_config

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIGLIP_MEAN = SIGLIP_STD = (0.5, 0.5, 0.5)
TOWERS = {"clip": "CLIPVisionModelWithProjection", "siglip": "SiglipVisionModel", "siglip2": "Siglip2VisionModel"}


class VisionTower(FrozenNetwork):
    """The vision side of an image-text model; ``layers`` are ``tokens``, the last hidden state.

    Pictures are resized to the tower's own square (bilinear, antialiased), SigLIP2 in its naflex form excepted, which
    reads any multiple of its patch size: there pictures keep their size, cropped to whole patches.
    """

    layers = ("tokens",)

    def __init__(self, model: Any, name: str) -> None:
        family = _family(model.config)
        mean, std = (CLIP_MEAN, CLIP_STD) if family == "clip" else (SIGLIP_MEAN, SIGLIP_STD)
        super().__init__(name, fingerprint(model.state_dict()), mean, std)
        self.model, self.naflex = model, family == "siglip2"
        self.patch = model.config.patch_size
        self.size = round(model.config.num_patches**0.5) * self.patch if self.naflex else model.config.image_size
        self.freeze()

    def features(self, images: Tensor) -> list[Tensor]:
        """The tokens as one feature map [B, W, h, w] of images [B, 3, H, W] in [-1, 1]."""
        hidden, _, grid = self._run(images)
        tokens = hidden[:, hidden.shape[1] - grid[0] * grid[1] :]  # CLIP puts a class token in front
        return [tokens.transpose(1, 2).unflatten(2, grid)]

    def embedding(self, images: Tensor) -> Tensor:
        """One vector a picture in the space shared with the text tower: [B, D], not normalised."""
        return self._run(images)[1]

    def _run(self, images: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
        x = self.normalise(images).to(self.model.dtype)
        if self.naflex:
            return self._run_naflex(x)
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", align_corners=False, antialias=True)
        out = self.model(pixel_values=x)
        side = self.size // self.patch
        pooled = out.image_embeds if "image_embeds" in out else out.pooler_output
        return out.last_hidden_state, pooled, (side, side)

    def _run_naflex(self, x: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
        p, rows, columns = self.patch, x.shape[-2] // self.patch, x.shape[-1] // self.patch
        if rows == 0 or columns == 0:
            raise ValueError(f"{self.name} needs at least {p} pixels on each side, not {list(x.shape[-2:])}")
        whole = x[..., : rows * p, : columns * p].permute(0, 2, 3, 1)
        patches = patchify(whole[:, None], (1, p, p)).flatten(1, 3)  # [B, N, (row, column, RGB)]
        mask = torch.ones(patches.shape[:2], dtype=torch.int64, device=x.device)
        shapes = torch.tensor([[rows, columns]] * len(x), device=x.device)
        out = self.model(pixel_values=patches, pixel_attention_mask=mask, spatial_shapes=shapes)
        return out.last_hidden_state, out.pooler_output, (rows, columns)


def clip(source: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> VisionTower:
    """The vision tower of a CLIP, SigLIP or SigLIP2 model: a folder, or ``owner/name`` on the hub.

    Raises ``ValueError`` where transformers is missing or the model is of another family, and ``FileNotFoundError``
    where there is no such model.
    """
    config = read_config(source, "CLIP or SigLIP model")
    model = pretrained(TOWERS[_family(config)], source, "vision weights", dtype=dtype)
    return VisionTower(model, str(source)).to(device)


def _family(config: Any) -> str:
    family = config.model_type.removesuffix("_vision_model")
    if family not in TOWERS:
        raise ValueError(f"a vision tower must be one of {', '.join(TOWERS)}, not {config.model_type!r}")
    return family
