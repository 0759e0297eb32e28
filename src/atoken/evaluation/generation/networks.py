"""What looks at pictures: EfficientNet-Lite0, and the FID Inception through torch-fidelity; features kept on disk."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...backbones.lite0 import lite0
from ...backbones.network import weight_file
from ...core.errors import reading
from ...core.files import atomic_write
from ...core.hashing import file_hash
from ...core.text import shortened
from ...media.pixels import from_uint8
from ...weights.files import read_state_dict
from ..judges import to_frames
from .pictures import PictureSet, identity_of

INCEPTION = (
    "give --inception the file weights-inception-2015-12-05-6726825d.pth of torch-fidelity's releases "
    "(github.com/toshas/torch-fidelity/releases/tag/v0.2.0)"
)
POOLED, LOGITS, SPATIAL = "pooled", "logits", "spatial"
SPATIAL_CHANNELS = 7


class Network(ABC):
    """Features of pictures uint8 [B, 3, H, W], by name."""

    name: str
    weights_hash: str
    what: str
    """Which features, for the record."""

    @abstractmethod
    def look(self, frames: Tensor) -> dict[str, Tensor]:
        """Each of its features, fp32 [B, C]."""

    def describe(self) -> dict[str, str]:
        """Name, weights and features as JSON-ready values."""
        return {"name": self.name, "sha256": self.weights_hash, "features": self.what}


class Lite0(Network):
    """The head of EfficientNet-Lite0, averaged over the picture: 1280 numbers. Raises ``ValueError`` without it."""

    what = "head, averaged over the picture"

    def __init__(self, device: str) -> None:
        self.net = lite0(("head",), device=device)
        self.name, self.weights_hash = self.net.name, self.net.weights_hash

    @torch.no_grad()
    def look(self, frames: Tensor) -> dict[str, Tensor]:
        """Pictures are seen in their own size."""
        return {POOLED: self.net.embedding(from_uint8(frames)).float()}


class Inception(Network):
    """The FID Inception of torch-fidelity with the user's file.

    ``pooled`` [B, 2048]; ``logits`` [B, 1008] without the bias, for the inception score; ``spatial`` [B, 2023], for
    sFID (arXiv 2103.03841): guided-diffusion's evaluator takes the first seven channels of ``mixed_6/conv``, 17 x 17,
    flattened with the channels last. That is the output of ``Mixed_6d.branch1x1`` here. Raises ``ValueError`` where the
    package or the file is missing, or the file is another.
    """

    name = "the FID Inception (torch-fidelity)"
    what = f"pool_3; logits without bias; first {SPATIAL_CHANNELS} channels of mixed_6/conv"

    def __init__(self, path: Path | None, device: str) -> None:
        if path is None:
            raise ValueError(f"fid needs the FID Inception: {INCEPTION}")
        path = weight_file(path, "FID Inception", INCEPTION)
        read_state_dict(path)  # which refuses code; torch-fidelity would run it
        try:
            from torch_fidelity import FeatureExtractorInceptionV3
        except (ImportError, RuntimeError) as error:  # torchvision raises RuntimeError where it is of another torch
            raise ValueError(
                f"fid needs torch-fidelity, and a torchvision that fits torch ({shortened(error)}): "
                "pip install 'atoken[fid]' brings both"
            ) from None
        with reading(path, INCEPTION):
            net = FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path)
            )
        self.net: Any = net.to(device)
        self.weights_hash = file_hash(path)
        self._spatial: list[Tensor] = []
        self.net.Mixed_6d.branch1x1.register_forward_hook(lambda _, __, output: self._spatial.append(output))

    @torch.no_grad()
    def look(self, frames: Tensor) -> dict[str, Tensor]:
        """Pictures are resized to 299 x 299 as TensorFlow 1 does it."""
        pooled, logits = self.net(frames)
        spatial = self._spatial.pop()[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)  # [B, 17 * 17 * 7]
        return {POOLED: pooled.float(), LOGITS: logits.float(), SPATIAL: spatial.float()}


def compute_features(
    pictures: PictureSet,
    network: Network,
    folder: Path,
    batch: int,
    device: str,
    *,
    share: tuple[int, int] = (0, 1),
    advance: Callable[[int], None] = lambda done: None,
) -> None:
    """Write the features of a share (number, of how many) into ``folder``, but those that are there.

    Raises ``ValueError`` where a picture cannot be read, or features are not finite.
    """
    starts = range(share[0] * batch, pictures.count, share[1] * batch)
    for turn, start in enumerate(starts, 1):
        path = _file(pictures, network, folder, batch, start)
        if not path.is_file():
            read = pictures.read(start, min(start + batch, pictures.count))
            found: dict[str, list[Tensor]] = {}
            for group in _of_one_shape(read):
                for name, values in network.look(to_frames(np.stack(group), device)).items():
                    found.setdefault(name, []).append(values.cpu())
            joined = {name: torch.cat(parts) for name, parts in found.items()}
            if not all(bool(torch.isfinite(values).all()) for values in joined.values()):
                raise ValueError(f"{network.name} gave NaN or infinite features: its weights are damaged")
            facts = {"pixels": f"{_digest(read):064x}"}
            with atomic_write(path) as temporary:
                temporary.write_bytes(safetensors.torch.save(joined, facts))
        advance(turn)


def load_features(pictures: PictureSet, network: Network, folder: Path, batch: int) -> tuple[dict[str, Tensor], str]:
    """Features [N, C] by name that ``compute_features`` wrote, and the SHA-256 of the pictures.

    That is the sum of those of the pictures modulo 2 ** 256: the same in any order. Raises ``ReadError`` where a file
    is damaged.
    """
    parts: dict[str, list[Tensor]] = {}
    digest = 0
    for start in range(0, pictures.count, batch):
        path = _file(pictures, network, folder, batch, start)
        try:
            for name, values in safetensors.torch.load_file(path).items():
                parts.setdefault(name, []).append(values)
            with safe_open(path, "pt") as file:
                digest += int((file.metadata() or {})["pixels"], 16)
        except (SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"{path} does not hold features ({error}): delete it and run again") from None
    return {name: torch.cat(values) for name, values in parts.items()}, f"{digest % 2**256:064x}"


def _file(pictures: PictureSet, network: Network, folder: Path, batch: int, start: int) -> Path:
    identity = identity_of(pictures.identity, network.describe(), batch)
    return folder / f"{identity[:16]}-{start // batch:06d}.safetensors"


def _of_one_shape(pictures: Any) -> list[list[np.ndarray]]:
    """Pictures in their order, neighbours of one shape together."""
    groups: list[list[np.ndarray]] = []
    for picture in pictures:
        if groups and groups[-1][0].shape == picture.shape:
            groups[-1].append(picture)
        else:
            groups.append([picture])
    return groups


def _digest(pictures: Any) -> int:
    return sum(int(hashlib.sha256(np.ascontiguousarray(each).tobytes()).hexdigest(), 16) for each in pictures)
