"""A diffusion transformer (DiT, arXiv 2212.09748; LightningDiT, arXiv 2501.01423) over packed (t, x, y, z) tokens.

What a sample is told goes in as tokens before its own, and as a vector that steers every block.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nn.adaln import AdaLNBlock, Modulation, modulate
from ...nn.norm import RMSNorm
from ...nn.position import sinusoids
from ..config import DiTConfig
from ..net import ConditionedNet, Prepared

TIME_WIDTH = 256
TIME_SCALE = 1000.0
"""Times 0 ... 1 are spread over so many steps before the sinusoids, as in DiT."""


class DiT(ConditionedNet):
    """What a flow's net predicts, of noisy latents at a time for each sample, under a condition."""

    config: DiTConfig

    def __init__(self, config: DiTConfig) -> None:
        super().__init__(config)
        width = config.width
        self.embed = nn.Linear(config.latent_channels, width)
        self.time = nn.Sequential(nn.Linear(TIME_WIDTH, width), nn.SiLU(), nn.Linear(width, width))
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
        # normal_, and * on tensors of the device "meta", import torch._dynamo: a second of every load
        for number in (0, 2):
            weight = self.time.get_parameter(f"{number}.weight")
            weight.data = torch.randn(weight.shape).mul_(0.02)
        nn.init.zeros_(self.final.weight)

    def forward(
        self, x: Tensor, t: Tensor, prepared: Prepared, *, after: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Noisy latents x [N, C] at times t [B] in 0 ... 1: the prediction, fp32 [N, C].

        With ``after`` also the output [N, W] that the samples' own tokens have after so many blocks.
        """
        dtype = self.embed.weight.dtype
        steer = self.time(sinusoids(t * TIME_SCALE, TIME_WIDTH).to(dtype)) + prepared.vector.to(dtype)  # [B, W]
        tokens = self.embed(x.to(dtype)) + prepared.positions.to(dtype)
        hidden = torch.cat([prepared.context.to(tokens.dtype), tokens]).index_select(0, prepared.order)
        middle = None
        for number, block in enumerate(self.blocks, 1):
            hidden = block(hidden, prepared.rope, prepared.spans, steer, prepared.sample)
            if number == after:
                middle = hidden.index_select(0, prepared.own)
        shift, scale = self.final_modulation(steer, prepared.own_sample)
        out = modulate(self.final_norm(hidden.index_select(0, prepared.own)), shift, scale)
        with torch.autocast(out.device.type, enabled=False):  # velocities near the data are differences
            out = F.linear(out.float(), self.final.weight.float(), self.final.bias.float())
        return out, middle
