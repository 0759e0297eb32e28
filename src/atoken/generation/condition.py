"""What samples are told, of any kind, and how a net reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..nn.norm import RMSNorm


@dataclass(frozen=True, eq=False)
class Condition:
    """What B samples are told; None where a net is told nothing of that kind."""

    labels: Tensor | None = None
    """int64 [B]; -1: nothing is known."""
    text: tuple[Tensor, Sequence[int]] | None = None
    """States of text tokens [M, text_width], and how many of them each sample has; 0: nothing is known."""
    image: tuple[Tensor, Tensor, Sequence[int]] | None = None
    """Image tokens [M, image_width], their coordinates int [M, 4], and how many of them each sample has."""

    def dropped(self, gone: Sequence[bool]) -> Condition:
        """The same, where the samples that ``gone`` marks are told nothing."""
        labels, text, image = self.labels, self.text, self.image
        if labels is not None:
            labels = labels.masked_fill(torch.tensor(list(gone), device=labels.device), -1)
        if text is not None:
            rows, lengths = _without(gone, text[1])
            text = text[0][rows.to(text[0].device)], lengths
        if image is not None:
            rows, lengths = _without(gone, image[2])
            image = image[0][rows.to(image[0].device)], image[1][rows.to(image[1].device)], lengths
        return Condition(labels, text, image)

    def part(self, first: int, last: int) -> Condition:
        """What the samples ``first`` ... ``last - 1`` are told."""
        labels, text, image = self.labels, self.text, self.image
        if labels is not None:
            labels = labels[first:last]
        if text is not None:
            here, lengths = _between(first, last, text[1])
            text = text[0][here], lengths
        if image is not None:
            here, lengths = _between(first, last, image[2])
            image = image[0][here], image[1][here], lengths
        return Condition(labels, text, image)

    def to(self, device: torch.device | str) -> Condition:
        """The same on another device."""
        return Condition(
            None if self.labels is None else self.labels.to(device),
            None if self.text is None else (self.text[0].to(device), self.text[1]),
            None if self.image is None else (self.image[0].to(device), self.image[1].to(device), self.image[2]),
        )


def _without(gone: Sequence[bool], lengths: Sequence[int]) -> tuple[Tensor, list[int]]:
    """Which tokens stay, bool [M], and how many each sample then has."""
    rows = torch.tensor([not g for g in gone]).repeat_interleave(torch.tensor(list(lengths)))
    return rows, [0 if g else n for g, n in zip(gone, lengths, strict=True)]


def _between(first: int, last: int, lengths: Sequence[int]) -> tuple[slice, list[int]]:
    start, own = sum(lengths[:first]), list(lengths[first:last])
    return slice(start, start + sum(own)), own


class ContextInput(nn.Module):
    """Foreign tokens as tokens of the net; a sample that has none gets the learnt one of nothing."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.norm = RMSNorm(features)
        self.proj = nn.Linear(features, width)
        self.nothing = nn.Parameter(torch.randn(1, width).mul_(0.02))
        self.steer = nn.Linear(width, width)

    def forward(self, feats: Tensor, lengths: Sequence[int]) -> tuple[Tensor, list[int]]:
        """feats [M, features], ``lengths`` of each sample -> tokens [M', W] and their numbers, at least one each."""
        tokens = self.proj(self.norm(feats.to(self.proj.weight.dtype)))
        many = [max(n, 1) for n in lengths]
        given = torch.tensor([n > 0 for n in lengths]).repeat_interleave(torch.tensor(many))
        rows = torch.where(given, given.cumsum(0) - 1, len(tokens)).to(tokens.device)
        # both are always part of the graph: FSDP needs a gradient of a parameter on all ranks or on none
        return torch.cat([tokens, self.nothing.to(tokens.dtype)]).index_select(0, rows), many

    def pooled(self, tokens: Tensor, lengths: Sequence[int]) -> Tensor:
        """What the mean token of each sample adds to its steering vector: [B, W]."""
        counts = torch.tensor(list(lengths), device=tokens.device)
        sample = torch.arange(len(counts), device=tokens.device).repeat_interleave(counts, output_size=len(tokens))
        sums = tokens.new_zeros(len(counts), tokens.shape[1]).index_add(0, sample, tokens)
        return self.steer(sums / counts[:, None])


def with_origin(places: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
    """Coordinates [M, 4] with the origin for each sample that had none."""
    if list(before) == list(after):
        return places
    origin = places.new_zeros(1, places.shape[1])
    return torch.cat([part if len(part) else origin for part in places.split(list(before))])
