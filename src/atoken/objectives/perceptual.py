"""The three terms that look at pictures through frozen networks, at one size, with every network run once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import PATCH
from ..perceptual.efficientnet import EfficientNetLite
from ..perceptual.lpips import PerceptualDistance
from ..perceptual.network import FrozenNetwork
from ..tokens import Packed
from .feature import feature_distance
from .gram import gram

SIZE = 224
"""Side to which the paper resizes pictures for these terms (section 3.3)."""
LITE_LAYERS = ("stem", "stage1", "stage2", "stage3", "stage5", "head")
"""What is compared of an EfficientNet-Lite: one layer of each resolution, and the last."""
LITE_GRAM_LAYERS = ("stem", "stage1", "stage2", "stage3", "stage5")


class PerceptualTerms(nn.Module):
    """``lpips``, ``gram`` and ``clip`` of reconstructed pictures, unweighted.

    ``distance`` gives the first; ``texture`` is the network of the Gram term, by default the same one, whose features
    are then shared; ``gram_layers`` are the layers it reads (all of the network's unless given); ``tower`` gives the
    third, from its last feature map, and without it there is no such term.
    """

    def __init__(
        self,
        distance: PerceptualDistance,
        *,
        texture: FrozenNetwork | None = None,
        gram_layers: Sequence[str] = (),
        tower: FrozenNetwork | None = None,
        size: int = SIZE,
    ) -> None:
        super().__init__()
        self.distance, self.tower, self.size = distance, tower, size
        self.texture = texture or distance.network
        self.gram_layers = tuple(gram_layers) or self.texture.layers
        if unknown := [layer for layer in self.gram_layers if layer not in self.texture.layers]:
            known = ", ".join(self.texture.layers)
            raise ValueError(f"{self.texture.name} has no layer {unknown[0]!r} for the Gram term; it has {known}")

    def forward(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Terms of RGB pictures [B, 3, S, S] in [-1, 1], as ``to_squares`` makes them; gradients for the prediction."""
        maps, wanted = self._maps(prediction, track=True), self._maps(target, track=False)
        network, texture = self.distance.network, self.texture
        places = [texture.layers.index(layer) for layer in self.gram_layers]
        terms = {
            "lpips": self.distance.compare(maps[network], wanted[network]).mean(),
            "gram": gram([maps[texture][i] for i in places], [wanted[texture][i] for i in places]),
        }
        if self.tower is not None:
            terms["clip"] = feature_distance(maps[self.tower][-1], wanted[self.tower][-1])
        return terms

    def _maps(self, pictures: Tensor, *, track: bool) -> dict[FrozenNetwork, list[Tensor]]:
        networks = {self.distance.network, self.texture, *([self.tower] if self.tower is not None else [])}
        with nullcontext() if track else torch.no_grad():
            return {network: network.features(pictures) for network in networks}


def to_squares(patches: Tensor, packed: Packed, size: int = SIZE, limit: int | None = None) -> Tensor:
    """Pictures of a packed batch, resized to squares: [B, 3, size, size] from frame 0 of patches [N, 768 or more].

    ``packed`` gives the coordinates; every sample must be a full grid at one time step, as pictures are. The resizing
    is bilinear and antialiased, whatever the aspect (the paper says "224x224" and no more); a picture that has the
    size already is left as it is. ``limit`` takes the first so many samples, which bounds the cost. The order is that
    of the samples.
    """
    lengths = packed.lengths[:limit]
    places = packed.coords[: sum(lengths)]
    extents = torch.stack([place[:, 2:4].amax(0) for place in places.split(lengths)]) + 1  # [B, 2]
    squares = []
    for part, (rows, columns) in zip(patches[: sum(lengths)].split(lengths), extents.tolist(), strict=True):
        blocks = part[:, : PATCH[1] * PATCH[2] * 3].reshape(rows, columns, PATCH[1], PATCH[2], 3)
        picture = blocks.permute(4, 0, 2, 1, 3).reshape(1, 3, rows * PATCH[1], columns * PATCH[2])
        if picture.shape[-2:] != (size, size):
            picture = F.interpolate(picture, (size, size), mode="bilinear", align_corners=False, antialias=True)
        squares.append(picture)
    return torch.cat(squares)


def lite_terms(network: EfficientNetLite, size: int = SIZE) -> PerceptualTerms:
    """All three terms from one pass through one EfficientNet-Lite: for training with nothing to download.

    ``network`` has the layers that it is to compare (``lite0(layers=LITE_LAYERS)``). The distance is the plain one
    over all of them, Gram reads those of ``LITE_GRAM_LAYERS``, and the last one stands in for CLIP's features.
    """
    textures = [layer for layer in network.layers if layer in LITE_GRAM_LAYERS]
    return PerceptualTerms(PerceptualDistance(network), gram_layers=textures, tower=network, size=size)
