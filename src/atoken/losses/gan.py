"""A patch discriminator with the hinge loss: for the ablation that the paper sets against Gram, in no recipe else."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Discriminator(nn.Module):
    """Scores of overlapping parts of RGB pictures [B, 3, H, W] in [-1, 1]: [B, 1, H/8 - 2, W/8 - 2].

    Three strided convolutions and two more, of ``width`` channels doubling, with group norms (arXiv 1611.07004,
    batch norm replaced so that mixed sizes and small batches train alike).
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for inner, outer, stride in ((width, 2 * width, 2), (2 * width, 4 * width, 2), (4 * width, 8 * width, 1)):
            layers += [nn.Conv2d(inner, outer, 4, stride, 1), nn.GroupNorm(8, outer), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Scores, positive for what looks real."""
        out = self.layers(pictures)
        assert isinstance(out, Tensor)
        return out


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of the scores of real and (detached) reconstructed pictures: mean of both sides, a scalar."""
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def generator_loss(fake: Tensor) -> Tensor:
    """What the tokenizer minimises: minus the mean score of its reconstructions."""
    return -fake.mean()
