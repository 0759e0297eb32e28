"""Methods for 3D: an AToken model with its Gaussian head, and one ball of colour a voxel as what it should beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..gaussians.raster.rasterize import render
from ..gaussians.types import Gaussians
from ..media.views.packed import to_patches
from ..media.views.voxels import RESOLUTION
from ..pipeline.atoken import AToken
from ..tokenizer.identity import HEAD, fingerprint
from .assets import HeldOut
from .methods import ATokenMethod, Method, Outcome, stored

BALL = 0.5
"""Standard deviation of a ball, in edges of a voxel."""
OPACITY = 0.99
COLOUR_BITS = 24


class AssetMethod(ATokenMethod):
    """A model with a Gaussian head and one kind of tokens; its Gaussians are drawn from the held-out cameras.

    Raises ``ValueError`` for a model without the head.
    """

    def __init__(self, model: AToken, name: str, kind: str) -> None:
        if model.config.gaussians is None:
            raise ValueError(f"{name!r} has no Gaussian head, which the reconstruction of 3D needs")
        super().__init__(model, name, kind)

    @torch.no_grad()
    def reconstruct(self, clips: Sequence[HeldOut]) -> list[Outcome]:
        """Through ``encode``, ``decode`` and the rasterizer."""
        outcomes = []
        for clip in clips:
            item = stored(self.model.encode(clip.views, kind=self.kind))
            pictures = render(self.model.decode(item), clip.cameras).to_uint8()
            codes = item.values if self.kind == "discrete" else None
            outcomes.append(Outcome(pictures, self.bits(item), codes, units=len(item)))
        return outcomes

    def describe(self) -> dict[str, Any]:
        """As for pictures, and the hash of the Gaussian head, which is not in that of the tokens."""
        state = self.model.state_dict()
        return {**super().describe(), "head": fingerprint({k: v for k, v in state.items() if k.startswith(HEAD)})}


class VoxelColours(Method):
    """Every occupied voxel as one round Gaussian of the mean colour of the patch that a model would read there."""

    def __init__(self, resolution: int = RESOLUTION) -> None:
        self.resolution = resolution
        self.name = self.family = f"voxel colours, {resolution}³"

    @torch.no_grad()
    def reconstruct(self, clips: Sequence[HeldOut]) -> list[Outcome]:
        """Balls at the centres of the voxels, drawn from the held-out cameras."""
        outcomes = []
        for clip in clips:
            balls = voxel_balls(clip, self.resolution)
            pictures: np.ndarray = render(balls, clip.cameras).to_uint8()
            outcomes.append(Outcome(pictures, COLOUR_BITS * len(balls), units=len(balls)))
        return outcomes

    def describe(self) -> dict[str, Any]:
        """Size and number of the balls."""
        return {"type": "voxel-colours", "resolution": self.resolution, "scale": BALL, "opacity": OPACITY}


def voxel_balls(clip: HeldOut, resolution: int) -> Gaussians:
    """One Gaussian for each occupied voxel."""
    feats, coords, _ = to_patches(clip.views, resolution)
    colours = feats.unflatten(1, (-1, 3)).mean(1) / 2 + 0.5  # [N, 3]
    centres = (coords[:, 1:] + 0.5) / resolution - 0.5
    upright = torch.tensor([1.0, 0, 0, 0]).expand(len(coords), 4)
    scales = torch.full((len(coords), 3), BALL / resolution)
    return Gaussians.of(centres, scales, upright, torch.full((len(coords),), OPACITY), colours)
