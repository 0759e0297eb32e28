"""From the posterior to the values that tokens keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..nn.posterior import Posterior

if TYPE_CHECKING:
    from ..tokenizer.net import TokenizerNet
    from . import EncodeOptions


def quantize(model: TokenizerNet, posterior: Posterior, options: EncodeOptions) -> Tensor:
    """Codes uint16 [N, G] for kind "discrete", else latents fp32 [N, C] (mean or a draw) or moments; on the CPU."""
    if options.kind == "discrete":
        indices = model.fsq.codes_to_indices(model.fsq(posterior.mode()))
        return indices.to(torch.int32).to(torch.uint16).cpu()
    if options.moments:
        return torch.cat([posterior.mean, posterior.logvar], 1).cpu()
    return (posterior.sample(options.generator) if options.sample else posterior.mode()).cpu()
