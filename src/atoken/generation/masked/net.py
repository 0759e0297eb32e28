"""The net of a masked generator: a transformer that says features of locations, and the head over their codes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...nn.adaln import Modulation
from ...nn.block import Block
from ...nn.cache import CacheStep, KVCache
from ...nn.fsq import FSQ
from ...nn.layout import Spans
from ...nn.norm import RMSNorm
from ...nn.rope import rope_table
from ..condition import Condition
from ..net import AXES, ConditionedNet, Context
from .config import MaskedNetConfig
from .head import CodeHead

Told = tuple[Tensor, list[Context]]
"""What ``ConditionedNet.told`` returns."""


class MaskedNet(ConditionedNet):
    """Features [N, W] of locations, from the dequantized codes of those that are known; ``head`` says their codes."""

    config: MaskedNetConfig

    def __init__(self, config: MaskedNetConfig) -> None:
        super().__init__(config)
        width = config.width
        self.fsq = FSQ(config.levels)
        self.embed = nn.Linear(config.channels, width)
        self.embed_norm = RMSNorm(width)
        self.start = nn.Parameter(torch.randn(config.start_tokens, width).mul_(0.02))
        self.unknown = nn.Parameter(torch.randn(1, width).mul_(0.02))
        self.blocks = nn.ModuleList(
            Block(width, config.heads, config.mlp_width, decoder=True) for _ in range(config.blocks)
        )
        self.between = nn.Sequential(RMSNorm(width), nn.Linear(width, width))
        self.norm = RMSNorm(width)
        self.head = CodeHead(config)
        self._start()

    def _start(self) -> None:
        """Xavier's start for matrices; zero for biases, modulations and outputs: at first all codes are as probable."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, Modulation):
                nn.init.zeros_(module.linear.weight)
        for output in self.head.outputs:
            nn.init.zeros_(output.get_parameter("weight"))

    def told(self, condition: Condition, count: int) -> Told:
        """As of all nets, with the start tokens, which hold the vector, as the first context."""
        vector, contexts = super().told(condition, count)
        tokens = (self.start + vector[:, None]).flatten(0, 1)  # [B * start_tokens, W]
        places = torch.zeros(len(tokens), AXES, dtype=torch.int32, device=tokens.device)
        return vector, [(tokens, places, [len(self.start)] * count), *contexts]

    def tokens(self, codes: Tensor, positions: Tensor) -> Tensor:
        """Known codes int64 [N, G] as tokens [N, W] at fixed embeddings fp32 [N, W] of their places."""
        values = self.fsq.indices_to_codes(codes).to(self.embed.weight.dtype)
        embedded = self.embed_norm(self.embed(values))
        return embedded + positions.to(embedded.dtype)

    def features(self, codes: Tensor, known: Tensor, coords: Tensor, lengths: Sequence[int], told: Told) -> Tensor:
        """Features [N, W] of all locations at coords int [N, 4] of B samples, of which ``known`` bool [N] have codes.

        The encoder sees those alone; the decoder sees its output at their places, and learnt tokens at the others.
        Codes int64 [N, G] of unknown locations are not looked at.
        """
        sample = torch.arange(len(lengths)).repeat_interleave(torch.tensor(list(lengths)))
        seen = torch.bincount(sample[known.cpu()], minlength=len(lengths)).tolist()
        known, codes = known.to(self.device), codes.to(self.device)
        coords = coords.to(self.device)
        part, whole = self.in_order(coords[known], seen, *told), self.in_order(coords, lengths, *told)
        context = len(whole.context)
        tokens = self.tokens(codes[known], part.positions)
        hidden = torch.cat([part.context.to(tokens.dtype), tokens])[part.order]
        hidden = self.between(self._run(hidden, 0, self.config.encoder_depth, part.rope, part.spans))[part.place]
        unknown = self.unknown.expand(len(coords), -1).to(hidden.dtype)
        here = known.nonzero()[:, 0]
        inputs = unknown.index_copy(0, here, hidden[context:]) + whole.positions.to(hidden.dtype)
        hidden = torch.cat([hidden[:context], inputs])[whole.order]
        hidden = self._run(hidden, self.config.encoder_depth, self.config.blocks, whole.rope, whole.spans)
        return self.norm(hidden[whole.own])

    def raster(self, codes: Tensor, coords: Tensor, lengths: Sequence[int], told: Told) -> Tensor:
        """Features [N, W] of all locations, each from the codes int64 [N, G] of those before it in its sample."""
        whole = self.in_order(coords, lengths, *told)
        first = torch.tensor([0, *lengths[:-1]]).cumsum(0).to(self.device)
        before = self.tokens(codes.to(self.device), torch.zeros_like(whole.positions)).roll(1, 0)
        before = before.index_copy(0, first, self.unknown.expand(len(first), -1).to(before.dtype))
        inputs = before + whole.positions.to(before.dtype)
        hidden = torch.cat([whole.context.to(inputs.dtype), inputs])[whole.order]
        return self.norm(self._causal(hidden, whole.rope, whole.spans)[whole.own])

    def _causal(
        self, hidden: Tensor, rope: Tensor, spans: Spans, cache: tuple[KVCache, CacheStep] | None = None
    ) -> Tensor:
        middle, depth = self.config.encoder_depth, self.config.blocks
        hidden = self.between(self._run(hidden, 0, middle, rope, spans, cache, causal=True))
        return self._run(hidden, middle, depth, rope, spans, cache, causal=True)

    def _run(
        self,
        hidden: Tensor,
        first: int,
        last: int,
        rope: Tensor,
        spans: Spans,
        cache: tuple[KVCache, CacheStep] | None = None,
        *,
        causal: bool = False,
    ) -> Tensor:
        for number in range(first, last):
            kept = None if cache is None else (cache[0].layers[number], cache[1])
            hidden = self.blocks[number](hidden, rope, spans, kept, causal=causal)
        return hidden


class RasterSteps:
    """The features that ``raster`` gives, one location of each of B samples after the other."""

    def __init__(self, net: MaskedNet, told: Told) -> None:
        self.net, self.told = net, told
        self.cache = KVCache(net.config.blocks)
        self.turn: Tensor | None = None
        """int64 [B]: samples in computation order."""

    def next(self, before: Tensor | None, coords: Tensor) -> Tensor:
        """Features [B, W] of the next locations at coords int [B, 4], given codes int64 [B, G] of the ones before."""
        net, coords = self.net, coords.to(self.net.device)
        if before is None or self.turn is None:
            start = net.in_order(coords, [1] * len(coords), *self.told)
            self.turn = torch.unique_consecutive(start.sample)
            step = self.cache.append([n for count, n, _ in start.spans.runs for _ in range(count)], net.device)
            inputs = net.unknown + start.positions.to(net.unknown.dtype)
            hidden = torch.cat([start.context.to(inputs.dtype), inputs])[start.order]
            return net.norm(net._causal(hidden, start.rope, step.spans, (self.cache, step))[start.own])
        step = self.cache.append([1] * len(coords), net.device)
        hidden = net.tokens(before, net.absolute(coords))[self.turn]
        rope = rope_table(coords[self.turn], net.config.head_dim, axial=True)
        return net.norm(net._causal(hidden, rope, step.spans, (self.cache, step))[self.turn.argsort()])
