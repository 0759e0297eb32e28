"""What is compared: tokenizers and codecs behind one interface, clips in and clips out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..media.pixels import from_uint8, to_uint8
from ..media.video.frames import Clip
from ..pipeline.atoken import AToken
from ..tokenizer.config import ModelConfig
from ..tokens.patch import PATCH
from ..tokens.tokens import Tokens
from .tokenizers import Tokenizer

NORMAL = 256 * 256
"""Pixels of a picture of the paper's protocol."""
LATENT_BITS = 16
"""Bits of a stored latent: continuous latents are rounded to fp16 before they are decoded."""


@dataclass(frozen=True)
class Outcome:
    """What became of one clip."""

    frames: np.ndarray
    """uint8 [F, H, W, 3], the shape of the original."""
    bits: float
    """Size of what was decoded from."""
    codes: Tensor | None = None
    """Discrete codes [N, G]."""
    over: bool = False
    """A codec that could not stay within its bytes; this is the smallest that it makes."""
    units: int | None = None
    """What the bits are counted over: occupied voxels of an asset; None for the pixels of ``frames``."""


class Method(ABC):
    """A row of the table. Clips are uint8 [F, H, W, 3]; a picture is a clip of one frame."""

    name: str
    family: str
    """What the methods of one curve in the rate-distortion plot share; the name of the main one of them."""
    codebooks: Sequence[int] = ()
    """Size of each group's codebook, where there are codes."""

    @abstractmethod
    def reconstruct(self, clips: Sequence[Any]) -> list[Outcome]:
        """Each clip after encoding and decoding; all clips have one shape. For 3D, clips are ``assets.HeldOut``."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What it is and how it was run, as JSON-ready values."""


class ATokenMethod(Method):
    """An AToken model with one kind of tokens."""

    def __init__(self, model: AToken, name: str, kind: str) -> None:
        self.model, self.kind = model, kind
        self.name = self.family = f"{name}, {kind}"
        if kind == "discrete":
            self.codebooks = model.fsq.codebook_sizes

    @torch.no_grad()
    def reconstruct(self, clips: Sequence[Any]) -> list[Outcome]:
        """Through ``encode`` and ``decode``, pictures as pictures and longer clips as videos."""
        pictures = len(clips[0]) == 1
        sources = [clip[0] if pictures else Clip(clip, fps=1) for clip in clips]  # the times are not looked at
        tokens = [stored(item) for item in self.model.encode(sources, kind=self.kind)]
        outcomes = []
        for item, result in zip(tokens, self.model.decode(tokens), strict=True):
            codes = item.values if self.kind == "discrete" else None
            outcomes.append(Outcome(result[None] if pictures else result, self.bits(item), codes))
        return outcomes

    def bits(self, tokens: Tokens) -> int:
        """Size of the codes or of the latents as they are stored."""
        if self.kind == "discrete":
            return len(tokens) * bits_of_codes(self.codebooks)
        return tokens.values.numel() * LATENT_BITS

    def describe(self) -> dict[str, Any]:
        """Name, weights, config, precision, and what a token takes."""
        config = self.model.config
        size = {"codebooks": list(self.codebooks)} if self.kind == "discrete" else {"stored_as": "float16"}
        return {
            "type": "atoken",
            "model": config.name,
            "sha256": self.model.weights_hash,
            "kind": self.kind,
            "dtype": str(self.model.proj.weight.dtype).removeprefix("torch."),
            "latent_channels": config.latent_channels,
            **size,
            "config": config.to_dict(),
        }


class TokenizerMethod(Method):
    """Any tokenizer, frame by frame, with its latents stored as fp16."""

    def __init__(self, tokenizer: Tokenizer, device: str, batch: int = 16) -> None:
        self.tokenizer, self.device, self.batch = tokenizer, device, batch
        self.name = self.family = tokenizer.name

    @torch.no_grad()
    def reconstruct(self, clips: Sequence[np.ndarray]) -> list[Outcome]:
        """Through ``encode`` and ``decode``. Raises ``ValueError`` where another shape or NaN comes back."""
        frames = np.concatenate(clips)
        results, bits = [], []
        step = at_once(self.batch, frames.shape)
        for start in range(0, len(frames), step):
            part = torch.from_numpy(frames[start : start + step]).to(self.device)
            pixels = from_uint8(part.permute(0, 3, 1, 2))
            latents = self.tokenizer.encode(pixels).half()
            decoded = self.tokenizer.decode(latents.float(), (pixels.shape[-2], pixels.shape[-1]))
            if decoded.shape != pixels.shape:
                raise ValueError(f"{self.name} made {list(decoded.shape)} of {list(pixels.shape)}")
            if not bool(torch.isfinite(decoded).all()):
                raise ValueError(f"{self.name} made NaN or infinite pixels: --dtype float32 may help")
            results.append(to_uint8(decoded).permute(0, 2, 3, 1).cpu().numpy())
            bits += [latents[0].numel() * LATENT_BITS] * len(part)
        count = len(clips[0])
        parts = np.split(np.concatenate(results), len(clips))
        return [Outcome(part, sum(bits[i * count : (i + 1) * count])) for i, part in enumerate(parts)]

    def describe(self) -> dict[str, Any]:
        """The tokenizer's own words."""
        return {"type": "tokenizer", "stored_as": "float16", **self.tokenizer.describe()}


def at_once(batch: int, shape: Sequence[int]) -> int:
    """How many frames of a clip of ``shape`` (F, H, W, 3) are computed at once, so that memory does not grow with their
    size: as many pixels as ``batch`` pictures of the paper's protocol have, or one frame."""
    return max(1, min(batch, batch * NORMAL // (shape[1] * shape[2])))


def stored(tokens: Tokens) -> Tokens:
    """Tokens as they come out of storage: continuous latents rounded to fp16."""
    return replace(tokens, values=tokens.values.half().float()) if tokens.kind == "continuous" else tokens


def bits_of_codes(codebooks: Sequence[int]) -> int:
    """Bits of one token: every code takes a whole number of them."""
    return sum(math.ceil(math.log2(size)) for size in codebooks)


def bytes_of_tokens(config: ModelConfig, clip: np.ndarray) -> int:
    """Bytes that the discrete tokens of a clip take, whether the model was trained for them or not."""
    frames, height, width, _ = clip.shape
    steps = 1 if frames == 1 else -(-frames // PATCH[0])
    tokens = steps * -(-height // PATCH[1]) * -(-width // PATCH[2])
    return -(-tokens * bits_of_codes([math.prod(group) for group in config.fsq_levels]) // 8)
