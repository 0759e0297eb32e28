"""Positions that are added to tokens: a learned table, resized to every picture's grid, and fixed sinusoids."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layout import Layout
from .rope import BASE


def sinusoids(values: Tensor, width: int) -> Tensor:
    """Cosines, then sines, of numbers [N] at ``width // 2`` frequencies from 1 down towards 1 / BASE: [N, width].

    Vaswani et al., arXiv:1706.03762; of an odd ``width`` the last number is zero.
    """
    half = width // 2
    frequencies = BASE ** (-torch.arange(half, device=values.device, dtype=torch.float32) / max(half, 1))
    turns = values.float()[:, None] * frequencies  # [N, half]
    return F.pad(torch.cat([turns.cos(), turns.sin()], 1), (0, width % 2))


class PositionTable(nn.Module):
    """A learned table of ``size`` x ``size`` positions, added once to the tokens after the input layer.

    It is resized to the (rows, columns) of each segment, bilinear and antialiased, in fp32, and read at (x, y); time
    and depth get nothing from it.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.size = size
        # nn.Embedding's own start, and * , on the device "meta" import torch._dynamo: a second of every load
        self.position_embedding = nn.Embedding.from_pretrained(torch.randn(size * size, width).mul_(0.02), freeze=False)

    def forward(self, layout: Layout) -> Tensor:
        """Position of every token in the layout's order: fp32 [N, W]."""
        table = self.position_embedding.weight.float()
        square = table.view(self.size, self.size, -1).permute(2, 0, 1)[None]  # [1, W, x, y]
        resized = [self._resize(square, grid) for grid in layout.grids]
        return torch.cat(resized)[layout.grid_index] if len(resized) > 1 else resized[0][layout.grid_index]

    def _resize(self, square: Tensor, grid: tuple[int, int]) -> Tensor:
        # one column after the rows: the CPU kernel of torch 2.13 errs in (n, 1) at once
        for size in ((grid[0], self.size), grid) if grid[1] == 1 else (grid,):
            if square.shape[2:] != size:
                square = F.interpolate(square, size=size, mode="bilinear", align_corners=False, antialias=True)
        return square[0].flatten(1).t()  # [rows * columns, W]
