"""LPIPS (arXiv 1801.03924): the distance of two pictures in the unit-length features of a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..weights.files import read_safetensors
from .network import FrozenNetwork

HEADS = Path(__file__).with_name("lpips.safetensors")
"""The published linear heads of version 0.1 for VGG16 and AlexNet (BSD-2-Clause, NOTICE)."""
EPS = 1e-10


class PerceptualDistance(nn.Module):
    """``sum over layers, mean over places, sum over channels of w (a - b)^2``, a and b of unit length (Eq. 1 there).

    ``heads`` are the weights w >= 0 of each layer's channels. Without them w is 1 / (number of layers), so that the
    distance is the mean over layers of 2 - 2 cos, between 0 and 4: what Lite0 gives.
    """

    def __init__(self, network: FrozenNetwork, heads: Sequence[Tensor] | None = None) -> None:
        super().__init__()
        if heads is not None and len(heads) != len(network.layers):
            raise ValueError(f"{network.name} has {len(network.layers)} layers and {len(heads)} heads")
        self.network = network
        self.name = f"{'lpips' if heads else 'distance'}-{network.name}"
        self.heads = nn.ParameterList(nn.Parameter(head, requires_grad=False) for head in heads or ())

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of each pair of RGB pictures [B, 3, H, W] in [-1, 1]: fp32 [B]."""
        return self.compare(self.network.features(a), self.network.features(b))

    def compare(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """The distance from feature maps that were computed before: fp32 [B]."""
        total = torch.zeros((), device=a[0].device)
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            if self.heads:
                squares = (unit(x) - unit(y)).square()  # [B, C, h, w]
                layer = torch.einsum("bchw,c->bhw", squares, self.heads[index].to(squares.dtype))
            else:
                layer = (2 - 2 * (unit(x) * unit(y)).sum(1)) / len(a)
            total = total + layer.mean((-2, -1))
        return total


def unit(x: Tensor) -> Tensor:
    """Feature maps [B, C, h, w] with channel vectors of unit length, in fp32 or more."""
    x = x.float() if x.element_size() < 4 else x
    return x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + EPS)


def lpips(network: FrozenNetwork) -> PerceptualDistance:
    """LPIPS with the published heads of ``network``, "vgg16" or "alexnet". Raises ``ValueError`` for any other."""
    heads = read_safetensors(HEADS)
    found = [heads[key] for index in range(5) if (key := f"{network.name}.{index}") in heads]
    if not found:
        raise ValueError(
            f"there are no published LPIPS heads for {network.name}: use vgg16, alexnet or a plain distance"
        )
    return PerceptualDistance(network, found)
