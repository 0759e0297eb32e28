"""Logarithm of each picture's mean squared error."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def log_mse(prediction: Tensor, target: Tensor, lengths: Sequence[int], valid: Tensor | None = None) -> Tensor:
    """Mean over samples of the natural logarithm of each one's mean squared error: a scalar.

    prediction, target [N, C]; ``lengths`` are the tokens of each sample, N in all. It is the average PSNR up to a
    factor of -4.34 and a constant, so that easy and hard pictures pull alike. Errors below 1e-6 (66 dB) count as that.
    ``valid`` bool [N, C] leaves out the others, such as the grey frames that pad stills; as many in each of a sample's
    tokens.
    """
    squares = (prediction - target).square()
    token = squares.mean(-1) if valid is None else (squares * valid).sum(-1) / valid.sum(-1)  # [N]
    if len(set(lengths)) == 1:
        means = token.view(len(lengths), -1).mean(1)
    else:
        means = torch.stack([part.mean() for part in token.split(list(lengths))])
    return means.clamp_min(1e-6).log().mean()
