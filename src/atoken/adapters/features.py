"""Maps of the encoder at chosen depths, as timm's models give them with ``features_only=True``."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..tokens.patch import PATCH
from . import dense
from .tokenizers import Source, model_of


class FeatureInfo:
    """What timm's ``feature_info`` answers."""

    def __init__(self, channels: int, out_indices: Sequence[int]) -> None:
        self._channels, self.out_indices = channels, tuple(out_indices)

    def channels(self) -> list[int]:
        """Channels of each map."""
        return [self._channels] * len(self.out_indices)

    def reduction(self) -> list[int]:
        """Pixels along a side of a place of each map."""
        return [PATCH[1]] * len(self.out_indices)

    def module_name(self) -> list[str]:
        """The module that each map comes out of."""
        return [f"blocks.{index}" for index in self.out_indices]


class ATokenFeatures(nn.Module):
    """The residual stream after some blocks: pictures [B, 3, H, W] in [-1, 1] -> a list of [B, W, H / 16, W / 16].

    ``out_indices`` counts blocks from 0, negative ones from the end; by default the last. Clips [B, 3, T, H, W] give
    [B, W, t, h, w]. Differentiable. Raises ``ValueError`` for a block that is none.
    """

    def __init__(self, source: Source, out_indices: Sequence[int] = (-1,)) -> None:
        super().__init__()
        self.model = model_of(source)
        depth = self.model.config.encoder_depth
        if wrong := [index for index in out_indices if not -depth <= index < depth]:
            raise ValueError(f"out_indices has {wrong[0]}, and {self.model.config.name!r} has blocks 0 ... {depth - 1}")
        self.feature_info = FeatureInfo(self.model.config.width, [index % depth for index in out_indices])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Raises ``ValueError`` for sides that are no multiples of 16."""
        return dense.maps(self.model, x, [index + 1 for index in self.feature_info.out_indices])
