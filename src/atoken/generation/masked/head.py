"""The codes of a location one after the other: a small causal transformer over its groups."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...nn.adaln import AdaLNBlock, Modulation, modulate
from ...nn.cache import KVCache
from ...nn.layout import Spans
from ...nn.norm import RMSNorm
from ...nn.rope import rope_table
from .config import MaskedNetConfig


class CodeHead(nn.Module):
    """Logits of each of G codes of a location, given its features and the codes before.

    The position of code g holds the sum of one small table a quantized number (4096 codes: 6 tables of 4 rows) of code
    g - 1; that of the first code holds the features, which also steer every block. Outputs are one full matrix a code:
    logits that were sums over the numbers, too, would make the numbers of a code independent of each other.
    """

    def __init__(self, config: MaskedNetConfig) -> None:
        super().__init__()
        self.config = config
        width = config.head_width
        self.start = nn.Linear(config.width, width)
        self.group = nn.Parameter(torch.randn(len(config.levels), width).mul_(0.02))
        rows = sum(map(sum, config.levels[:-1]))  # nothing follows the last code
        self.level = nn.Parameter(torch.randn(rows, width).mul_(config.channels**-0.5))
        self.blocks = nn.ModuleList(
            AdaLNBlock(width, config.head_heads, config.head_mlp_width, width) for _ in range(config.head_depth)
        )
        self.final_modulation = Modulation(width, width, 2)
        self.final_norm = RMSNorm(width)
        self.outputs = nn.ModuleList(nn.Linear(width, math.prod(levels)) for levels in config.levels)

    def embed(self, codes: Tensor, group: int) -> Tensor:
        """Codes int64 [M] of a group -> [M, head_width]: the sum over its numbers, the first least significant."""
        first = sum(map(sum, self.config.levels[:group]))
        total = self.level.new_zeros(len(codes), self.level.shape[1])
        for levels in self.config.levels[group]:
            total = total + self.level[first + codes % levels]
            codes, first = codes // levels, first + levels
        return total

    def forward(self, features: Tensor, codes: Tensor) -> list[Tensor]:
        """Features [M, W] and codes int64 [M, G]: logits [M, K_g] of every group, each given the codes before it."""
        condition = self.start(features)
        positions = [self.input(g, condition, codes[:, g - 1] if g else None) for g in range(len(self.config.levels))]
        states = self.run(torch.stack(positions, 1), 0, condition)  # [M, G, head_width]
        return [output(states[:, g]) for g, output in enumerate(self.outputs)]

    def input(self, group: int, condition: Tensor, before: Tensor | None) -> Tensor:
        """What the position of a group holds: [M, head_width]."""
        held = condition if before is None else self.embed(before, group - 1)
        return held + self.group[group]

    def run(self, x: Tensor, first: int, condition: Tensor, cache: KVCache | None = None) -> Tensor:
        """Positions ``first`` ... ``first + n - 1`` as x [M, n, head_width], steered by ``condition``: their states."""
        count, length, _ = x.shape
        places = torch.arange(first, first + length, device=x.device).repeat(count)
        rope = rope_table(places[:, None], self.config.head_width // self.config.head_heads, axial=True)
        location = torch.arange(count, device=x.device).repeat_interleave(length)
        step = None if cache is None else cache.append([length] * count, x.device)
        spans = Spans(((count, length, length),), x.device) if step is None else step.spans
        hidden = x.flatten(0, 1)
        for number, block in enumerate(self.blocks):
            kept = None if cache is None or step is None else (cache.layers[number], step)
            hidden = block(hidden, rope, spans, condition, location, cache=kept, causal=True)
        hidden = modulate(self.final_norm(hidden), *self.final_modulation(condition, location))
        return hidden.unflatten(0, (count, length))


class CodeSteps:
    """The same logits one group after the other, as drawing needs them; keys and values of earlier groups are kept."""

    def __init__(self, head: CodeHead, features: Tensor) -> None:
        self.head, self.condition = head, head.start(features)
        self.cache, self.group = KVCache(len(head.blocks)), 0

    def next(self, before: Tensor | None) -> Tensor:
        """Logits [M, K] of the next group, given the codes int64 [M] of the one before; None at the first."""
        x = self.head.input(self.group, self.condition, before)
        states = self.head.run(x[:, None], self.group, self.condition, self.cache)[:, 0]
        logits = self.head.outputs[self.group](states)
        self.group += 1
        return logits
