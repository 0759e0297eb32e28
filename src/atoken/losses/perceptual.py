"""The three terms that look at pictures through frozen networks, at one size, with every network run once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones.efficientnet import EfficientNetLite
from ..backbones.lpips import PerceptualDistance
from ..backbones.network import FrozenNetwork
from ..media.patchify import ONE_FRAME, unpatchify
from ..nn.packed import Packed
from ..tokens.patch import FRAME_FEATURES
from .feature import feature_distance
from .gram import gram

SIZE = 224
"""Side to which the paper resizes pictures for these terms (section 3.3)."""
TERMS = ("lpips", "gram", "clip")
LITE_LAYERS = ("stem", "stage1", "stage2", "stage3", "stage5", "head")
"""What is compared of an EfficientNet-Lite: one layer of each resolution, and the last."""
LITE_GRAM_LAYERS = ("stem", "stage1", "stage2", "stage3", "stage5")


class PerceptualTerms(nn.Module):
    """``lpips``, ``gram`` and ``clip`` of reconstructed pictures, unweighted.

    ``distance`` gives the first; ``texture`` is the network of the Gram term, by default the same one, whose features
    are then shared; ``gram_layers`` are the layers it reads (all of the network's unless given); ``tower`` gives the
    third, from its last feature map, and without it there is no such term. Only the terms ``wanted`` are computed.
    """

    def __init__(
        self,
        distance: PerceptualDistance,
        *,
        texture: FrozenNetwork | None = None,
        gram_layers: Sequence[str] = (),
        tower: FrozenNetwork | None = None,
        size: int = SIZE,
        wanted: Sequence[str] = TERMS,
    ) -> None:
        super().__init__()
        self.distance, self.size = distance, size
        self.tower = tower if "clip" in wanted else None
        self.wanted = wanted
        self.texture = texture or distance.network
        self.gram_layers = tuple(gram_layers) or self.texture.layers
        if unknown := [layer for layer in self.gram_layers if layer not in self.texture.layers]:
            known = ", ".join(self.texture.layers)
            raise ValueError(f"{self.texture.name} has no layer {unknown[0]!r} for the Gram term; it has {known}")

    def forward(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Terms of RGB pictures [B, 3, S, S] in [-1, 1], as ``to_squares`` makes them; gradients for the prediction."""
        maps, wanted = self._maps(prediction, track=True), self._maps(target, track=False)
        network, texture = self.distance.network, self.texture
        terms = {}
        if "lpips" in self.wanted:
            terms["lpips"] = self.distance.compare(maps[network], wanted[network]).mean()
        if "gram" in self.wanted:
            places = [texture.layers.index(layer) for layer in self.gram_layers]
            terms["gram"] = gram([maps[texture][i] for i in places], [wanted[texture][i] for i in places])
        if self.tower is not None:
            terms["clip"] = feature_distance(maps[self.tower][-1], wanted[self.tower][-1])
        return terms

    def _maps(self, pictures: Tensor, *, track: bool) -> dict[FrozenNetwork, list[Tensor]]:
        readers = {"lpips": self.distance.network, "gram": self.texture, "clip": self.tower}
        networks = {network for term, network in readers.items() if term in self.wanted and network is not None}
        with nullcontext() if track else torch.no_grad():
            return {network: network.features(pictures) for network in networks}


def to_squares(patches: Tensor, packed: Packed, size: int = SIZE, limit: int | None = None) -> Tensor:
    """Pictures of a packed batch, resized to squares: [B, 3, size, size] from frame 0 of patches [N, 768 or more].

    ``packed`` gives the coordinates; every sample must be a full grid at one time step, as pictures are. The resizing
    is bilinear and antialiased, whatever the aspect (the paper says "224x224" and no more); a picture that has the
    size already is left as it is. ``limit`` takes the first so many samples, which bounds the cost. The order is that
    of the samples. Raises ``ValueError`` for samples that are no pictures.
    """
    if [rows * columns for rows, columns in packed.extents] != packed.lengths:
        raise ValueError("only pictures become squares: each sample must be a whole grid of rows and columns")
    squares, at = [], 0
    for (rows, columns), group in groupby(packed.extents[:limit]):
        count = len(list(group))
        part = patches[at : at + count * rows * columns, :FRAME_FEATURES]
        frames = unpatchify(part.reshape(count, 1, rows, columns, -1), ONE_FRAME)[:, 0]  # [count, H, W, 3]
        pictures = frames.permute(0, 3, 1, 2).contiguous()
        if pictures.shape[-2:] != (size, size):
            pictures = F.interpolate(pictures, (size, size), mode="bilinear", align_corners=False, antialias=True)
        squares.append(pictures)
        at += count * rows * columns
    return torch.cat(squares)


def lite_terms(network: EfficientNetLite, size: int = SIZE, wanted: Sequence[str] = TERMS) -> PerceptualTerms:
    """All three terms from one pass through one EfficientNet-Lite: for training with nothing to download.

    ``network`` has the layers that it is to compare (``lite0(layers=LITE_LAYERS)``). The distance is the plain one
    over all of them, Gram reads those of ``LITE_GRAM_LAYERS``, and the last one stands in for CLIP's features.
    """
    textures = [layer for layer in network.layers if layer in LITE_GRAM_LAYERS]
    return PerceptualTerms(PerceptualDistance(network), gram_layers=textures, tower=network, size=size, wanted=wanted)
