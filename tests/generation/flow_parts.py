"""A small flow, its tokens, and distributions whose velocities are known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from atoken import Packed
from atoken.generation.condition import Condition
from atoken.generation.config import DiTConfig
from atoken.generation.flow.net import DiT
from atoken.nn.packed import dense_coords

TEXT, IMAGE = 12, 6


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small(seed: int = 0, **inputs: int) -> DiT:
    """A net whose outputs and modulations are not zero, as they are at the start of training."""
    torch.manual_seed(seed)
    net = DiT(DiTConfig(3, 32, 2, 48, latent_channels=5, **inputs))
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return net.eval()


def voxels(count: int) -> Tensor:
    """Sparse places of an asset: int32 [count, 4]."""
    draws = torch.randperm(16**3, generator=torch.Generator().manual_seed(count))[:count].sort().values
    return torch.stack([draws * 0, draws // 256, draws // 16 % 16, draws % 16], 1).int()


PLACES = [dense_coords((1, 2, 3, 1)), dense_coords((2, 2, 2, 1)), voxels(9), dense_coords((1, 3, 2, 1))]
"""A picture, a clip, an asset, and a picture of another shape."""


def told(net: DiT) -> Condition:
    """What the samples at ``PLACES`` are told, of all kinds that the net reads; one of each is told nothing."""
    config = net.config
    return Condition(
        torch.tensor([1, 0, -1, 2]) if config.classes else None,
        (rand(7, TEXT, seed=1), [4, 0, 2, 1]) if config.text_width else None,
        (rand(5, IMAGE, seed=2), dense_coords((1, 5, 1, 1)), [2, 3, 0, 0]) if config.image_width else None,
    )


def packed(places: list[Tensor], channels: int = 5) -> Packed:
    return Packed.cat([(rand(len(item), channels, seed=10 + i), item) for i, item in enumerate(places)])


class Mixture:
    """Gaussians in C dimensions with means [K, C], deviations [K, C] and shares [K]."""

    def __init__(self, means: list[list[float]], stds: list[list[float]], shares: list[float]) -> None:
        self.means, self.stds, self.shares = torch.tensor(means), torch.tensor(stds), torch.tensor(shares)

    def draw(self, count: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        which = torch.multinomial(self.shares, count, replacement=True, generator=generator)
        return self.means[which] + self.stds[which] * torch.randn(count, self.means.shape[1], generator=generator)

    def expected(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Means of data and of noise, given x_t [N, C] at t [N]: each component is a Gaussian with Gaussian noise."""
        t = t[:, None, None]
        centre, variance = (1 - t) * self.means, ((1 - t) * self.stds) ** 2 + t**2  # [N, K, C]
        away = x_t[:, None] - centre
        logs = self.shares.log() - (away**2 / variance + variance.log()).sum(-1) / 2
        weights = logs.softmax(-1)[..., None]
        data = self.means + (1 - t) * self.stds**2 / variance * away
        return (weights * data).sum(1), (weights * t / variance * away).sum(1)

    def velocity(self, x_t: Tensor, t: Tensor) -> Tensor:
        data, noise = self.expected(x_t, t)
        return noise - data
