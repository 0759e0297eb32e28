"""A diffusion transformer (DiT, arXiv 2212.09748; LightningDiT, arXiv 2501.01423) over packed (t, x, y, z) tokens.

What a sample is told goes in as tokens before its own ("in context"), and as a vector that steers every block. Nothing
here knows of pictures: a clip or an asset is other coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nn.adaln import AdaLNBlock, Modulation, modulate
from ...nn.layout import Spans
from ...nn.norm import RMSNorm
from ...nn.position import sinusoids
from ...nn.rope import rope_table
from ..condition import Condition, ContextInput, with_origin
from ..config import DiTConfig

TIME_WIDTH = 256
TIME_SCALE = 1000.0
"""Times 0 ... 1 are spread over so many steps before the sinusoids, as in DiT."""
AXES = 4


@dataclass(frozen=True)
class Prepared:
    """All that does not depend on noise and time, computed once for many steps.

    Sequences lie in computation order: sorted by length, so that equal lengths share one attention call.
    """

    context: Tensor
    """Embedded tokens of the condition, [M, W], before they are put in order."""
    positions: Tensor
    """Fixed embedding of the samples' own tokens, fp32 [N, W]."""
    vector: Tensor
    """What steers the blocks besides time, [B, W]."""
    order: Tensor
    """int64 [M + N]: which of context and tokens, joined, comes where."""
    own: Tensor
    """int64 [N]: where each of the samples' own tokens lies in computation order."""
    sample: Tensor
    """int64 [M + N], in computation order."""
    own_sample: Tensor
    """int64 [N], in input order."""
    spans: Spans
    rope: Tensor
    """complex64 [M + N, 1, D/2], in computation order."""


class DiT(nn.Module):
    """What a flow's net predicts, of noisy latents at a time for each sample, under a condition."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.embed = nn.Linear(config.latent_channels, width)
        self.time = nn.Sequential(nn.Linear(TIME_WIDTH, width), nn.SiLU(), nn.Linear(width, width))
        # the last row of the table is the label of nothing
        self.label = nn.Parameter(torch.empty(config.classes + 1, width)) if config.classes else None
        self.text = ContextInput(config.text_width, width) if config.text_width else None
        self.image = ContextInput(config.image_width, width) if config.image_width else None
        self.blocks = nn.ModuleList(
            AdaLNBlock(width, config.heads, config.mlp_width, width) for _ in range(config.depth)
        )
        self.final_modulation = Modulation(width, width, 2)
        self.final_norm = RMSNorm(width)
        self.final = nn.Linear(width, config.latent_channels)
        self._start()

    def _start(self) -> None:
        """Xavier's start for matrices; zero for biases, modulations and the output (DiT)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, Modulation):
                nn.init.zeros_(module.linear.weight)
        # normal_ on the device "meta" imports torch._dynamo: a second of every load
        for number in (0, 2):
            weight = self.time.get_parameter(f"{number}.weight")
            weight.data = 0.02 * torch.randn(weight.shape)
        if self.label is not None:
            self.label.data = 0.02 * torch.randn(self.label.shape)
        nn.init.zeros_(self.final.weight)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embed.weight.device

    def prepare(self, coords: Tensor, lengths: Sequence[int], condition: Condition) -> Prepared:
        """What coords int [N, 4] = (t, x, y, z) of B samples, one after the other, and their condition decide.

        Raises ``ValueError`` where the condition is not what the net was made for.
        """
        self._check(condition, len(lengths))
        device, count = self.device, len(lengths)
        coords, condition = coords.to(device), condition.to(device)
        own_sample = torch.arange(count).repeat_interleave(torch.tensor(list(lengths))).to(device)
        vector = torch.zeros(count, self.config.width, device=device)
        contexts: list[tuple[Tensor, Tensor, list[int]]] = []
        if self.label is not None:
            assert condition.labels is not None
            vector = vector + self.label[condition.labels]  # -1 is the last row
        if self.text is not None:
            assert condition.text is not None
            feats, text_lengths = condition.text
            tokens, many = self.text(feats, text_lengths)
            contexts.append((tokens, coords.new_zeros(len(tokens), AXES), many))  # the tower knows the order of words
            vector = vector + self.text.pooled(tokens, many)
        if self.image is not None:
            assert condition.image is not None
            feats, places, image_lengths = condition.image
            tokens, many = self.image(feats, image_lengths)
            contexts.append((tokens, with_origin(places.to(coords.dtype), image_lengths, many), many))
            vector = vector + self.image.pooled(tokens, many)
        return self._in_order(coords, lengths, own_sample, vector, contexts)

    def _in_order(
        self,
        coords: Tensor,
        lengths: Sequence[int],
        own_sample: Tensor,
        vector: Tensor,
        contexts: list[tuple[Tensor, Tensor, list[int]]],
    ) -> Prepared:
        """``contexts``: tokens [m, W], coordinates [m, 4], and how many each sample has."""
        device, count = coords.device, len(lengths)
        counts = torch.tensor([*([many for _, _, many in contexts]), list(lengths)])  # [kinds + 1, B]
        totals = counts.sum(0)
        turn = totals.argsort(stable=True)  # samples, shorter ones first
        place = turn.argsort()
        sample = torch.cat([torch.arange(count).repeat_interleave(row) for row in counts])
        order = place[sample].argsort(stable=True)
        positions = torch.cat([*[places for _, places, _ in contexts], coords])
        ranked = totals[turn].tolist()
        order_here = order.to(device)
        context = torch.cat([tokens for tokens, _, _ in contexts]) if contexts else vector.new_zeros(0, vector.shape[1])
        return Prepared(
            context=context,
            positions=self._absolute(coords),
            vector=vector,
            order=order_here,
            own=order.argsort()[len(context) :].to(device),
            sample=sample[order].to(device),
            own_sample=own_sample,
            spans=Spans.of(ranked, ranked, device),
            rope=rope_table(positions[order_here], self.config.head_dim, axial=True),
        )

    def _absolute(self, coords: Tensor) -> Tensor:
        """Fixed sinusoids of all four axes, a quarter of the width each: fp32 [N, W]. Rotary positions are relative."""
        width, quarter = self.config.width, self.config.width // AXES
        widths = [quarter] * (AXES - 1) + [width - quarter * (AXES - 1)]
        return torch.cat([sinusoids(coords[:, axis], wide) for axis, wide in enumerate(widths)], 1)

    def forward(
        self, x: Tensor, t: Tensor, prepared: Prepared, *, after: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Noisy latents x [N, C] at times t [B] in 0 ... 1: the prediction, fp32 [N, C].

        With ``after`` also the output [N, W] that the samples' own tokens have after so many blocks.
        """
        dtype = self.embed.weight.dtype
        steer = self.time(sinusoids(t * TIME_SCALE, TIME_WIDTH).to(dtype)) + prepared.vector.to(dtype)  # [B, W]
        tokens = self.embed(x.to(dtype)) + prepared.positions.to(dtype)
        hidden = torch.cat([prepared.context.to(tokens.dtype), tokens])[prepared.order]
        middle = None
        for number, block in enumerate(self.blocks, 1):
            hidden = block(hidden, prepared.rope, prepared.spans, steer, prepared.sample)
            if number == after:
                middle = hidden[prepared.own]
        shift, scale = self.final_modulation(steer, prepared.own_sample)
        out = modulate(self.final_norm(hidden[prepared.own]), shift, scale)
        with torch.autocast(out.device.type, enabled=False):  # velocities near the data are differences
            out = F.linear(out.float(), self.final.weight.float(), self.final.bias.float())
        return out, middle

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
