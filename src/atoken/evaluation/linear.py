"""The linear baseline: principal components of 16 x 16 patches, as many numbers as the tokenizer's latents."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..core.files import atomic_write
from ..media.patchify import ONE_FRAME, patchify, unpatchify
from ..metrics.frechet import FeatureStatistics
from ..tokenizer.identity import fingerprint
from ..tokens.patch import FRAME_FEATURES


class LinearProjection:
    """The best linear autoencoder of patches: a ``Tokenizer``.

    ``mean`` [768], ``directions`` [K, 768] by falling variance; the first ``channels`` of them are used. ``origin``
    says which patches they are of.
    """

    def __init__(self, mean: Tensor, directions: Tensor, channels: int, origin: str, device: str = "cpu") -> None:
        if not 0 < channels <= len(directions):
            raise ValueError(f"the linear projection has {len(directions)} directions, fewer than {channels}")
        self.mean, self.directions = mean.float().to(device), directions[:channels].float().to(device)
        self.channels, self.origin, self.name = channels, origin, f"linear projection to {channels}"

    @classmethod
    def fit(cls, patches: Iterable[Tensor], channels: int, origin: str) -> LinearProjection:
        """From batches of patches [N, 768] in [-1, 1]; memory does not grow with their number."""
        statistics = FeatureStatistics(FRAME_FEATURES)
        for batch in patches:
            statistics.update(batch)
        _, vectors = torch.linalg.eigh(statistics.covariance)
        return cls(statistics.mean, vectors.flip(1)[:, :channels].T, channels, origin)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file with the directions in fp16, atomically."""
        tensors = {"mean": self.mean.cpu(), "directions": self.directions.half().cpu().contiguous()}
        with atomic_write(path) as temporary:
            temporary.write_bytes(safetensors.torch.save(tensors, {"linear": json.dumps({"origin": self.origin})}))

    @classmethod
    def load(cls, path: str | Path, channels: int, device: str = "cpu") -> LinearProjection:
        """Read what ``save`` wrote. Raises ``FileNotFoundError`` or ``ValueError``."""
        if not Path(path).is_file():
            raise FileNotFoundError(f"no linear projection at {path}")
        try:
            tensors = safetensors.torch.load_file(path)
            with safe_open(path, "pt") as file:
                origin = json.loads((file.metadata() or {})["linear"])["origin"]
            mean, directions = tensors["mean"], tensors["directions"]
        except (SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"{path} does not hold a linear projection ({error})") from None
        return cls(mean, directions, channels, origin, device)

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] -> [B, rows, columns, channels]; edges are padded by their last row and column."""
        return (to_patches(pixels) - self.mean) @ self.directions.T

    def decode(self, latents: Tensor, size: tuple[int, int]) -> Tensor:
        """Pixels [B, 3, H, W] of ``size`` (H, W): what was padded is cut off."""
        patches = latents @ self.directions + self.mean  # [B, R, C, 768]
        canvas = unpatchify(patches[:, None], ONE_FRAME)[:, 0]  # [B, H, W, 3]
        return canvas.permute(0, 3, 1, 2)[..., : size[0], : size[1]]

    def describe(self) -> dict[str, Any]:
        """Numbers, where the directions are from, and their hash."""
        return {
            "model": "principal components of 16 x 16 patches",
            "sha256": fingerprint({"mean": self.mean, "directions": self.directions}),
            "latent_channels": self.channels,
            "of": self.origin,
        }


def to_patches(pixels: Tensor) -> Tensor:
    """Pixels [B, 3, H, W] -> patches [B, rows, columns, 768] in the order (row, column, RGB)."""
    return patchify(pixels.permute(0, 2, 3, 1)[:, None], ONE_FRAME)[:, 0]
