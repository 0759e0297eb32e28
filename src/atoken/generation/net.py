"""What the nets of all generators share: conditions, positions and order of packed (t, x, y, z) tokens.

What a sample is told goes in as tokens before its own ("in context"), and as a vector. Nothing here knows of pictures:
a clip or an asset is other coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..nn.layout import Spans
from ..nn.position import sinusoids
from ..nn.rope import rope_table
from .condition import Condition, ContextInput, with_origin
from .config import NetConfig

AXES = 4
Context = tuple[Tensor, Tensor, list[int]]
"""Tokens [m, W], their coordinates [m, 4], and how many each sample has."""


@dataclass(frozen=True)
class Prepared:
    """All that does not depend on the values of the samples' own tokens, computed once for many steps.

    Sequences lie in computation order: sorted by length, so that equal lengths share one attention call.
    """

    context: Tensor
    """Embedded tokens of the condition, [M, W], before they are put in order."""
    positions: Tensor
    """Fixed embedding of the samples' own tokens, fp32 [N, W]."""
    vector: Tensor
    """What the samples are told, as a vector, [B, W]."""
    order: Tensor
    """int64 [M + N]: which of context and tokens, joined, comes where."""
    place: Tensor
    """int64 [M + N], the inverse: where each of context and tokens lies in computation order."""
    sample: Tensor
    """int64 [M + N], in computation order."""
    own_sample: Tensor
    """int64 [N], in input order."""
    spans: Spans
    rope: Tensor
    """complex64 [M + N, 1, D/2], in computation order."""

    @property
    def own(self) -> Tensor:
        """int64 [N]: where each of the samples' own tokens lies in computation order."""
        return self.place[len(self.context) :]


class ConditionedNet(nn.Module):
    """The inputs of labels, texts and images, of which a net has those that its config names."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        # the last row of the table is the label of nothing
        self.label = nn.Parameter(torch.randn(config.classes + 1, width).mul_(0.02)) if config.classes else None
        self.text = ContextInput(config.text_width, width) if config.text_width else None
        self.image = ContextInput(config.image_width, width) if config.image_width else None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def prepare(self, coords: Tensor, lengths: Sequence[int], condition: Condition) -> Prepared:
        """What coords int [N, 4] = (t, x, y, z) of B samples, one after the other, and their condition decide.

        Raises ``ValueError`` where the condition is not what the net was made for.
        """
        return self.in_order(coords, lengths, *self.told(condition, len(lengths)))

    def told(self, condition: Condition, count: int) -> tuple[Tensor, list[Context]]:
        """What the condition of ``count`` samples says: as a vector [B, W], and as tokens of each kind.

        Raises ``ValueError`` where the condition is not what the net was made for.
        """
        self._check(condition, count)
        device, condition = self.device, condition.to(self.device)
        vector = torch.zeros(count, self.config.width, device=device)
        contexts: list[Context] = []
        if self.label is not None:
            assert condition.labels is not None
            vector = vector + self.label[condition.labels]  # -1 is the last row
        if self.text is not None:
            assert condition.text is not None
            feats, lengths = condition.text
            tokens, many = self.text(feats, lengths)
            places = torch.zeros(len(tokens), AXES, dtype=torch.int32, device=device)  # the tower knows words' order
            contexts.append((tokens, places, many))
            vector = vector + self.text.pooled(tokens, many)
        if self.image is not None:
            assert condition.image is not None
            feats, places, lengths = condition.image
            tokens, many = self.image(feats, lengths)
            contexts.append((tokens, with_origin(places.int(), lengths, many), many))
            vector = vector + self.image.pooled(tokens, many)
        return vector, contexts

    def in_order(self, coords: Tensor, lengths: Sequence[int], vector: Tensor, contexts: Sequence[Context]) -> Prepared:
        """The order of computation for tokens at coords int [N, 4] of B samples, after what ``told`` returns."""
        device, count, coords = self.device, len(lengths), coords.to(self.device)
        counts = torch.tensor([*([many for _, _, many in contexts]), list(lengths)])  # [kinds + 1, B]
        totals = counts.sum(0)
        turn = totals.argsort(stable=True)  # samples, shorter ones first
        rank = turn.argsort()
        sample = torch.cat([torch.arange(count).repeat_interleave(row) for row in counts])
        order = rank[sample].argsort(stable=True)
        positions = torch.cat([*[places for _, places, _ in contexts], coords])
        ranked = totals[turn].tolist()
        order_here = order.to(device)
        context = torch.cat([tokens for tokens, _, _ in contexts]) if contexts else vector.new_zeros(0, vector.shape[1])
        return Prepared(
            context=context,
            positions=self.absolute(coords),
            vector=vector,
            order=order_here,
            place=order.argsort().to(device),
            sample=sample[order].to(device),
            own_sample=sample[len(context) :].to(device),
            spans=Spans.of(ranked, ranked, device),
            rope=rope_table(positions[order_here], self.config.head_dim, axial=True),
        )

    def absolute(self, coords: Tensor) -> Tensor:
        """Fixed sinusoids of all four axes, a quarter of the width each: fp32 [N, W]. Rotary positions are relative."""
        width, quarter = self.config.width, self.config.width // AXES
        widths = [quarter] * (AXES - 1) + [width - quarter * (AXES - 1)]
        return torch.cat([sinusoids(coords[:, axis], wide) for axis, wide in enumerate(widths)], 1)

    def _check(self, condition: Condition, count: int) -> None:
        given = {"labels": condition.labels, "text": condition.text, "image tokens": condition.image}
        wanted = {"labels": self.label, "text": self.text, "image tokens": self.image}
        for name, value in given.items():
            if (value is None) != (wanted[name] is None):
                raise ValueError(f"this generator is {'told no' if wanted[name] is None else 'to be told'} {name}")
        many = [None if condition.labels is None else len(condition.labels)]
        many += [None if part is None else len(part[-1]) for part in (condition.text, condition.image)]
        if wrong := [number for number in many if number not in (None, count)]:
            raise ValueError(f"the condition is that of {wrong[0]} samples, and there are {count}")
        if self.label is not None and condition.labels is not None:
            worst = int(condition.labels.max()), int(condition.labels.min())
            if worst[0] >= self.config.classes or worst[1] < -1:
                raise ValueError(f"label {worst[0] if worst[1] >= -1 else worst[1]}: there are {self.config.classes}")
