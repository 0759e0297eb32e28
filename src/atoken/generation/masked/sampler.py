"""Codes drawn location by location, with guidance, and with chances of each sample's own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..condition import Condition
from ..generator import Step
from .config import MaskedSampleConfig
from .head import CodeSteps
from .net import MaskedNet, RasterSteps

ROWS = 2048
"""Locations whose probabilities are computed together."""


def unknown_after(length: int, steps: int) -> list[int]:
    """How many of ``length`` locations are unknown after each step: a cosine (MaskGIT, arXiv 2202.04200), down to 0.

    Each step makes one known or more, so that there are no more steps than locations.
    """
    steps, left = min(steps, length), [length]
    for step in range(1, steps + 1):
        wanted = math.floor(length * math.cos(math.pi / 2 * step / steps))
        left.append(max(steps - step, min(left[-1] - 1, wanted)))
    return left[1:]


def chances_of(seeds: Sequence[int], lengths: Sequence[int], groups: int) -> tuple[list[Tensor], Tensor]:
    """What of drawing is chance, on the CPU: each sample's order int64 [n], and fp64 [N, G] in 0 ... 1 for its codes.

    That of a sample follows from its own seed and length alone.
    """
    orders, draws = [], []
    for seed, length in zip(seeds, lengths, strict=True):
        generator = torch.Generator().manual_seed(seed)
        orders.append(torch.randperm(length, generator=generator))
        draws.append(torch.rand(length, groups, generator=generator, dtype=torch.float64))
    return orders, torch.cat(draws)


def choose(logits: Tensor, chance: Tensor, temperature: float) -> Tensor:
    """The code int64 [M] at which the probabilities of logits [M, K], summed up, pass ``chance`` fp64 [M].

    Raises ``ValueError`` where logits are not finite.
    """
    if not bool(torch.isfinite(logits).all()):
        raise ValueError("drawing ended in NaN or infinite logits: try less guidance, or compute in float32")
    if temperature == 0:
        return logits.argmax(-1)
    found = []
    for rows, own in zip(logits.split(ROWS), chance.split(ROWS), strict=True):
        total = (rows.double() / temperature).softmax(-1).cumsum(-1)
        found.append(torch.searchsorted(total, own[:, None] * total[:, -1:], right=True)[:, 0])
    return torch.cat(found).clamp_max(logits.shape[-1] - 1)


def draw_codes(steps: Sequence[CodeSteps], chance: Tensor, config: MaskedSampleConfig) -> Tensor:
    """Codes int64 [M, G] of M locations. Of two ``steps`` the second is told nothing, and logits are guided."""
    codes: list[Tensor] = []
    for group in range(chance.shape[1]):
        before = codes[-1] if codes else None
        logits = steps[0].next(before).float()
        for nothing in steps[1:]:
            other = nothing.next(before).float()
            logits = other + config.guidance * (logits - other)
        codes.append(choose(logits, chance[:, group], config.temperature))
    return torch.stack(codes, 1)


@torch.no_grad()
def draw(
    net: MaskedNet,
    coords: Sequence[Tensor],
    condition: Condition,
    seeds: Sequence[int],
    config: MaskedSampleConfig,
    on_step: Step | None = None,
) -> list[Tensor]:
    """Codes of B samples at their coords int [n, 4]: B times int64 [n, G] on the net's device.

    A sample depends on its seed, its coordinates and what it is told, not on the others, but for rounding. Raises
    ``ValueError`` for guidance of a net that is told nothing, and where logits are not finite.
    """
    net.config.check_guidance(config.guidance)
    conditions = [condition]
    if config.guidance != 1:
        conditions.append(condition.dropped([True] * len(coords)))
    way = _raster if net.config.order == "raster" else _random
    return way(net, coords, conditions, seeds, config, on_step)


def _random(
    net: MaskedNet,
    coords: Sequence[Tensor],
    conditions: Sequence[Condition],
    seeds: Sequence[int],
    config: MaskedSampleConfig,
    on_step: Step | None,
) -> list[Tensor]:
    """Features are guided, more strongly the more is known (TokenBridge): 1 + (guidance - 1) * known / length."""
    lengths, groups = [len(places) for places in coords], len(net.config.levels)
    orders, chances = chances_of(seeds, lengths, groups)
    chances, together = chances.to(net.device), torch.cat(list(coords)).to(net.device)
    starts = torch.tensor([0, *lengths[:-1]]).cumsum(0).tolist()
    plans = [[length, *unknown_after(length, config.steps)] for length in lengths]
    told = [net.told(one, len(lengths)) for one in conditions]
    codes = torch.zeros(len(together), groups, dtype=torch.int64, device=net.device)
    known = torch.zeros(len(together), dtype=torch.bool)
    total = max(map(len, plans)) - 1
    for step in range(total):
        now, strength = [], []
        for start, length, order, plan in zip(starts, lengths, orders, plans, strict=True):
            before, after = plan[step : step + 2] if step + 1 < len(plan) else (0, 0)
            now.append(start + order[length - before : length - after])
            strength += [1 + (config.guidance - 1) * (length - after) / length] * (before - after)
        places = torch.cat(now)
        features = net.features(codes, known, together, lengths, told[0])[places]
        for nothing in told[1:]:
            other = net.features(codes, known, together, lengths, nothing)[places]
            features = other + features.new_tensor(strength)[:, None] * (features - other)
        codes[places] = draw_codes([CodeSteps(net.head, features)], chances[places], config)
        known[places] = True
        if on_step is not None:
            on_step(step + 1, total)
    return list(codes.split(lengths))


def _raster(
    net: MaskedNet,
    coords: Sequence[Tensor],
    conditions: Sequence[Condition],
    seeds: Sequence[int],
    config: MaskedSampleConfig,
    on_step: Step | None,
) -> list[Tensor]:
    """Logits of every code are guided. A sample that is complete goes on without use until the longest one is."""
    lengths, groups = [len(places) for places in coords], len(net.config.levels)
    chances = chances_of(seeds, lengths, groups)[1].split(lengths)
    runs = [RasterSteps(net, net.told(one, len(lengths))) for one in conditions]
    codes: list[Tensor] = []
    for step in range(max(lengths)):
        here = [min(step, length - 1) for length in lengths]
        places = torch.stack([own[i] for own, i in zip(coords, here, strict=True)])
        chance = torch.stack([own[i] for own, i in zip(chances, here, strict=True)]).to(net.device)
        heads = [CodeSteps(net.head, run.next(codes[-1] if codes else None, places)) for run in runs]
        codes.append(draw_codes(heads, chance, config))
        if on_step is not None:
            on_step(step + 1, max(lengths))
    return [own[:length] for own, length in zip(torch.stack(codes, 1), lengths, strict=True)]
