"""From the tower's tokens to the language model's vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..tokenizer.config import ModelConfig
from .layout import VECTORS, Geometry, Layout
from .tower import state_size

FREQUENCIES = 4
"""Octaves of sine and cosine of each coordinate of a voxel."""


class Projector(nn.Module):
    """Pooled tokens to vectors of ``width``, and the learnt vectors between them.

    Hidden states and latents: LayerNorm, then two linear layers with a GELU between (LLaVA's projector with a norm
    before it). Codes: one table for each codebook, their rows side by side, and one linear layer. Voxels get a linear
    map of the sines and cosines of their coordinates added, which begins at zero.
    """

    def __init__(self, tower: ModelConfig, inputs: str, width: int) -> None:
        super().__init__()
        self.inputs = inputs
        if inputs == "codes":
            sizes = [math.prod(group) for group in tower.fsq_levels]
            part = -(-width // len(sizes))
            self.tables = nn.ModuleList(nn.Embedding(size, part) for size in sizes)
            self.size = part * len(sizes)
            layers: list[nn.Module] = [nn.Linear(self.size, width)]
        else:
            self.size = state_size(tower, inputs)
            layers = [nn.LayerNorm(self.size), nn.Linear(self.size, width), nn.GELU(), nn.Linear(width, width)]
        self.layers = nn.Sequential(*layers)
        self.position = nn.Linear(6 * FREQUENCIES, width, bias=False)
        self.vectors = nn.Parameter(torch.zeros(len(VECTORS), width))

    @torch.no_grad()
    def match(self, std: float) -> None:
        """Scale what comes out, and draw the learnt vectors, so that their deviation is ``std``.

        That of the language model's own embeddings, which it is used to.
        """
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        last.weight.mul_(std / self.layers(torch.randn(1024, self.size).to(last.weight)).std())
        self.vectors.normal_(std=std)
        self.position.weight.zero_()

    def forward(
        self, states: Sequence[Tensor], layouts: Sequence[Layout], geometries: Sequence[Geometry]
    ) -> list[Tensor]:
        """States [N, C] (codes [N, G]) of each source -> the vectors [P, width] at its placeholders."""
        sources = list(zip(states, layouts, geometries, strict=True))
        pooled = torch.cat([layout.pool(self._embedded(part)) for part, layout, _ in sources])
        stands = torch.cat([layout.vectors for layout in layouts]).to(pooled.device)
        places = torch.cat([self._positions(layout, geometry) for _, layout, geometry in sources])
        found = self.layers(pooled) + self.position(places.to(pooled))
        found = torch.where((stands < 0)[:, None], found, self.vectors[stands.clamp(min=0)])
        return list(found.split([len(layout) for layout in layouts]))

    def _embedded(self, states: Tensor) -> Tensor:
        weight = self.vectors
        if self.inputs != "codes":
            return states.to(weight.device, weight.dtype)
        codes = states.to(weight.device)
        return torch.cat([table(codes[:, number]) for number, table in enumerate(self.tables)], 1)

    @staticmethod
    def _positions(layout: Layout, geometry: Geometry) -> Tensor:
        """fp32 [P, 6 * FREQUENCIES]: of voxels the waves of x, y, z in the unit cube, elsewhere 0."""
        if geometry.modality != "3d":
            return torch.zeros(len(layout), 6 * FREQUENCIES)
        sides = torch.tensor(geometry.grid[1:], dtype=torch.float32)
        cells = layout.pool((geometry.coords[:, 1:].cpu().float() + 0.5) / sides)  # [P, 3]
        angles = cells[..., None] * (math.pi * 2.0 ** torch.arange(FREQUENCIES))
        waves = torch.cat([angles.sin(), angles.cos()], -1).flatten(1)
        return waves * (layout.vectors < 0)[:, None]
