"""What a flow learns: velocities at times drawn for each sample. The package's docstring says how time runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nn.packed import Packed
from ..condition import Condition
from ..config import ObjectiveConfig
from .net import DiT

BASE_NUMBERS = 4096
"""Numbers of a sample up to which times are not shifted (arXiv 2510.11690: 4 x 32 x 32)."""
LEAST_TIME = 1e-4
"""Drawing divides by no smaller time; a step begins at none."""


def noised(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Data x and noise [N, C] at times t [N]: x_t [N, C]."""
    return (1 - t)[:, None] * x + t[:, None] * noise


def velocity_of(output: Tensor, x_t: Tensor, t: Tensor, prediction: str, clamp: float = LEAST_TIME) -> Tensor:
    """The velocity that a net's output [N, C] means at x_t [N, C] and t [N]: itself, or (x_t - x) / max(t, clamp)."""
    return output if prediction == "v" else (x_t - output) / t.clamp_min(clamp)[:, None]


def shift_of(config: ObjectiveConfig, channels: int, lengths: Sequence[int]) -> Tensor:
    """The shift of each sample of so many tokens: fp32 [B], 1 or more unless the config fixes it.

    Below 1 times near noise, where drawing begins, would hardly be learnt.
    """
    numbers = torch.tensor(list(lengths), dtype=torch.float32) * channels
    if config.shift is not None:
        return torch.full_like(numbers, config.shift)
    return (numbers / BASE_NUMBERS).sqrt().clamp_min(1)


def shifted(t: Tensor, shift: Tensor) -> Tensor:
    """Times 0 ... 1 moved towards noise: s t / (1 + (s - 1) t), which keeps both ends (SD3, arXiv 2403.03206)."""
    return shift * t / (1 + (shift - 1) * t)


def draw_times(config: ObjectiveConfig, shift: Tensor, generator: torch.Generator) -> Tensor:
    """A time for each sample: fp32 [B], by a generator of the CPU."""
    if config.times == "uniform":
        t = torch.rand(len(shift), generator=generator)
    else:
        t = torch.sigmoid(config.time_mean + config.time_std * torch.randn(len(shift), generator=generator))
    return shifted(t, shift)


@dataclass(frozen=True, eq=False)
class FlowBatch:
    """Samples that a flow learns from."""

    latents: Packed
    """Normalised, float [N, C]."""
    condition: Condition
    seed: int
    """Of noise, times and dropped conditions."""
    features: Tensor | None = None
    """Features [N, F] of the clean data for the alignment, in the order of the latents."""
    cursor: dict[str, Any] = field(default_factory=dict)
    """Where the feed that it comes from stands after it."""

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sample."""
        return self.latents.lengths

    def pinned(self) -> FlowBatch:
        """The same with the latents in pinned memory."""
        latents = Packed(self.latents.feats.pin_memory(), self.latents.coords.pin_memory())
        return replace(self, latents=latents)


class FlowObjective(nn.Module):
    """The net together with what its objective learns: ``forward`` turns a batch into unweighted terms.

    Raises ``ValueError`` for an alignment with a block that the net has not.
    """

    def __init__(self, net: DiT, config: ObjectiveConfig, features: int = 0) -> None:
        """``features``: numbers of a token's features, where the objective aligns with them."""
        super().__init__()
        self.net, self.config = net, config
        self.align: nn.Sequential | None = None
        if config.align:
            if not features or config.align_block > net.config.depth:
                raise ValueError(
                    f"alignment needs features of the data and block {config.align_block} of {net.config.depth}"
                )
            width = net.config.width
            layers = (nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
            self.align = nn.Sequential(*layers, nn.Linear(width, features))

    def forward(self, batch: FlowBatch) -> dict[str, Tensor]:
        """Terms of a batch, each a scalar: ``velocity`` (mean squared error), ``cosine`` and ``align`` if they weigh.

        Means run over tokens, so that a longer sample counts more. Noise, times and dropped conditions follow from the
        batch's seed alone.
        """
        config, latents, lengths = self.config, batch.latents, batch.latents.lengths
        generator = torch.Generator().manual_seed(batch.seed)
        times = draw_times(config, shift_of(config, latents.feats.shape[1], lengths), generator)
        gone = (torch.rand(len(lengths), generator=generator) < config.drop).tolist()
        noise = torch.randn(latents.feats.shape, generator=generator).to(latents.feats.device)
        condition = batch.condition.dropped(gone) if any(gone) else batch.condition

        x, times = latents.feats.float(), times.to(latents.feats.device)
        t = times[latents.coords[:, 0].long()]
        x_t = noised(x, noise, t)
        prepared = self.net.prepare(latents.coords[:, 1:], lengths, condition)
        output, hidden = self.net(x_t, times, prepared, after=config.align_block if self.align else None)
        found = velocity_of(output, x_t, t, config.prediction, config.clamp)
        wanted = velocity_of(noise - x if config.prediction == "v" else x, x_t, t, config.prediction, config.clamp)

        terms = {"velocity": F.mse_loss(found, wanted)}
        if config.cosine:
            terms["cosine"] = 1 - F.cosine_similarity(found, wanted, dim=-1).mean()
        if self.align is not None:
            if batch.features is None or hidden is None:
                raise ValueError("the objective aligns with features of the data, and the batch has none")
            terms["align"] = 1 - F.cosine_similarity(self.align(hidden).float(), batch.features.float(), dim=-1).mean()
        return terms

    @property
    def weights(self) -> dict[str, float]:
        """What each term counts in the loss."""
        return {"velocity": 1.0, "cosine": self.config.cosine, "align": self.config.align}
