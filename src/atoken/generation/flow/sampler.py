"""From noise to data: Euler's and Heun's method, guidance, and noise of each sample's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..condition import Condition
from ..config import SampleConfig
from ..generator import Step
from .net import DiT
from .objective import shifted, velocity_of

LARGEST = 1e4
"""What no normalised latent reaches: drawing that ends beyond it has diverged."""
Velocity = Callable[[Tensor, Tensor], Tensor]
"""Velocity [N, C] at x [N, C] and times [B] of the samples."""


def noise_of(seeds: Sequence[int], lengths: Sequence[int], channels: int) -> Tensor:
    """Standard normal noise fp32 [N, C] on the CPU; that of a sample follows from its own seed and length alone."""
    draws = []
    for seed, length in zip(seeds, lengths, strict=True):
        generator = torch.Generator().manual_seed(seed)
        draws.append(torch.randn(length, channels, generator=generator))
    return torch.cat(draws)


def integrate(
    velocity: Velocity,
    noise: Tensor,
    sample: Tensor,
    shift: Tensor,
    config: SampleConfig,
    on_step: Step | None = None,
) -> Tensor:
    """Follow the velocity from noise [N, C] at t = 1 to data at t = 0: fp32 [N, C].

    Token n belongs to ``sample[n]`` int64 [N] of B, whose times are moved by ``shift`` [B]. The last step of Heun's
    method is one of Euler's, as there is no velocity at t = 0. Raises ``ValueError`` where it ends in NaN, or far from
    all data.
    """
    x = noise.float()
    even = torch.linspace(1, 0, config.steps + 1, device=x.device)
    grid = shifted(even[:, None], shift.to(x.device))  # [steps + 1, B]
    for index in range(config.steps):
        t, then = grid[index], grid[index + 1]
        width = (then - t)[sample, None]  # [N, 1], negative
        v = velocity(x, t)
        if config.method == "heun" and index + 1 < config.steps:
            v = (v + velocity(x + width * v, then)) / 2
        x = x + width * v
        if on_step is not None:
            on_step(index + 1, config.steps)
    if not bool((x.abs() < LARGEST).all()):
        raise ValueError(
            f"drawing ended in NaN, or beyond {LARGEST:g} deviations of the data (guidance {config.guidance:g}, "
            f"{config.steps} steps): try less guidance, or compute in float32"
        )
    return x


def guided(told: Velocity, nothing: Velocity, sample: Tensor, config: SampleConfig) -> Velocity:
    """``told + (guidance - 1) (told - nothing)`` (arXiv 2207.12598) at times inside the interval, ``told`` elsewhere.

    Without guidance ``nothing`` is never computed, nor where no sample is inside.
    """
    if config.guidance == 1:
        return told
    low, high = config.interval

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        v = told(x, t)
        inside = (t >= low) & (t <= high)
        if not bool(inside.any()):
            return v
        return v + (config.guidance - 1) * inside[sample, None] * (v - nothing(x, t))

    return velocity


@torch.no_grad()
def draw(
    net: DiT,
    coords: Sequence[Tensor],
    condition: Condition,
    seeds: Sequence[int],
    shift: Tensor,
    prediction: str,
    config: SampleConfig,
    on_step: Step | None = None,
) -> list[Tensor]:
    """Normalised latents of B samples at their coords int [n, 4]: B times fp32 [n, C] on the net's device.

    A sample depends on its seed, its coordinates and what it is told, not on the others, but for rounding. Raises
    ``ValueError`` for guidance of a net that is told nothing.
    """
    lengths = [len(places) for places in coords]
    together = torch.cat(list(coords)).to(net.device)
    sample = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).to(net.device)
    net.config.check_guidance(config.guidance)

    def of(told: Condition) -> Velocity:
        prepared = net.prepare(together, lengths, told)
        return lambda x, t: velocity_of(net(x, t, prepared)[0], x, t[sample], prediction)

    told = of(condition)
    velocity = told
    if config.guidance != 1:
        velocity = guided(told, of(condition.dropped([True] * len(lengths))), sample, config)
    noise = noise_of(seeds, lengths, net.config.latent_channels).to(net.device)
    return list(integrate(velocity, noise, sample, shift, config, on_step).split(lengths))
