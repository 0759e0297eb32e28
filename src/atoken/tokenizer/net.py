"""The network over packed tokens: encoder, bottleneck, decoder and Gaussian head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.text import shortened
from ..gaussians.types import Gaussians
from ..nn.cache import TileMemory
from ..nn.fsq import FSQ
from ..nn.packed import Packed
from ..nn.posterior import Posterior
from ..tokens.patch import FRAME_FEATURES, PATCH_FEATURES
from ..tokens.tokens import Tokens
from .config import ModelConfig
from .decoder import Decoder
from .encoder import Encoder
from .gaussian_head import GaussianDecoder
from .identity import Identity
from .latent_stats import ChannelStats


@dataclass(frozen=True)
class Encoded:
    """What the encoder says of a packed batch."""

    moments: Tensor
    """fp32 [N, 2 * latent_channels]: mean and log-variance."""
    hidden: Tensor
    """[N, W], after the final norm."""
    pooled: Tensor | None
    """fp32 [B, embed_dim or W] of unit length; None where pooling was not asked for."""
    hidden_layers: tuple[Tensor, ...] = ()
    """[N, W] each: the residual stream after the numbers of blocks that were asked for."""

    @property
    def posterior(self) -> Posterior:
        """The diagonal Gaussian of the moments."""
        return Posterior(self.moments)


class TokenEncoder(Identity):
    """Encoder and bottleneck over packed patches: all that makes tokens. A config alone gives random weights."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.proj = nn.Linear(config.width, 2 * config.latent_channels, bias=False)
        self.fsq = FSQ(config.fsq_levels)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.proj.weight.device

    @property
    def vocab_size(self) -> tuple[int, ...]:
        """Codes of each codebook. Raises ``ValueError`` for a model of continuous tokens."""
        self.config.check_kind("discrete")
        return tuple(self.fsq.codebook_sizes)

    @property
    def num_codebooks(self) -> int:
        """Codes of each token. Raises ``ValueError`` for a model of continuous tokens."""
        return len(self.vocab_size)

    @property
    def compute_dtype(self) -> str:
        """Dtype of the encoder's weights, as "float32": what it computes in, but for norms and the projection."""
        return str(self.encoder.input_layer.weight.dtype).removeprefix("torch.")

    def encode_packed(self, packed: Packed, *, pool: bool = True, hidden_layers: Sequence[int] = ()) -> Encoded:
        """Encode patches: feats [N, 3072], or [N, 768] where the other three frames are zero, in [-1, 1].

        ``hidden_layers=(3, 6)`` gives the residual stream after 3 and after 6 blocks, too (0: before the first).
        Samples do not see each other. Differentiable. Raises ``ValueError`` for another number of features, and for
        more blocks than there are.
        """
        depth = self.config.encoder_depth
        if wrong := [number for number in hidden_layers if not 0 <= number <= depth]:
            raise ValueError(f"hidden_layers has {wrong[0]}, and {self.config.name!r} has {depth} encoder blocks")
        if packed.feats.shape[1] not in (FRAME_FEATURES, PATCH_FEATURES):
            raise ValueError(
                f"feats need {PATCH_FEATURES} numbers (or {FRAME_FEATURES}, frame 0 alone), not {packed.feats.shape[1]}"
            )
        packed = packed.to(self.device)
        layout = packed.layout(self.config.encoder_tile, self.config.head_dim)
        tokens, hidden, layers = self.encoder(packed.feats, layout, hidden_layers)
        moments = self._moments(hidden if self.config.latent_norm else tokens)
        pooled = self.encoder.head(hidden, packed.coords[:, 0].long()) if pool else None
        return Encoded(moments, hidden, pooled, layers)

    def _moments(self, tokens: Tensor) -> Tensor:
        """The latent projection in fp32, whatever the dtype of tokens [N, W] and weights: [N, 2 * latent_channels]."""
        with torch.autocast(tokens.device.type, enabled=False):  # neighbouring FSQ levels need more bits than bf16 has
            return F.linear(tokens.float(), self.proj.weight.float())


class TokenizerNet(TokenEncoder):
    """Encoder, bottleneck, decoder and Gaussian head over packed tokens. A config alone gives random weights."""

    _latent_stats: ChannelStats | None = None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.decoder = Decoder(config)
        self.gaussians = None if config.gaussians is None else GaussianDecoder(config.gaussians)

    @property
    def latent_stats(self) -> ChannelStats | None:
        """Mean and deviation of each latent channel over the training data.

        None where they were not measured, and where the weights have changed since. ``ValueError`` where those of
        another model or number of channels are set.
        """
        stats = self._latent_stats
        return stats if stats is not None and stats.weights == self.weights_hash else None

    @latent_stats.setter
    def latent_stats(self, stats: ChannelStats | None) -> None:
        if stats is not None and len(stats.mean) != self.config.latent_channels:
            raise ValueError(f"latent_stats are of {len(stats.mean)} channels, not of {self.config.latent_channels}")
        if stats is not None and stats.weights != self.weights_hash:
            raise ValueError(
                f"latent_stats are of weights {stats.weights[:12]}, and this is {self.config.name!r} with weights "
                f"{self.weights_hash[:12]}"
            )
        self._latent_stats = stats

    def remember_stats(self, stats: ChannelStats | None) -> None:
        """Keep what was stored beside the weights; ``latent_stats`` leaves it out where it is of others."""
        self._latent_stats = stats

    def decode_packed(self, packed: Packed, *, features: int = PATCH_FEATURES) -> Tensor:
        """Decode latents (or FSQ codes) feats [N, latent_channels] to patches [N, ``features``], nominally in [-1, 1].

        ``features=768`` computes frame 0 alone. Differentiable. Raises ``ValueError`` for another number of channels.
        """
        if packed.feats.shape[1] != self.config.latent_channels:
            raise ValueError(f"latents need {self.config.latent_channels} channels, not {packed.feats.shape[1]}")
        return self.decoder(packed.to(self.device), features)

    def decode_gaussians(self, packed: Packed) -> Gaussians:
        """Decode latents (or FSQ codes) of voxels to the Gaussians of all samples, those of each token in turn.

        In the unit cube, fp32, differentiable. Raises ``ValueError`` for a model without the head.
        """
        if self.gaussians is None:
            raise ValueError(
                f"{self.config.name!r} has no Gaussian head, which 3D needs: load one with the model, "
                'as in load("atoken-soc.pt", gaussians="3d_decode_gs.pt") or atoken convert --gaussians'
            )
        patches = self.decode_packed(packed, features=FRAME_FEATURES)
        return self.gaussians(patches, packed.coords[:, [0, 2, 3, 4]])

    def tile_memory(self) -> TileMemory | None:
        """What ``decode_tile`` needs from the first tile of a video on; None where the decoder keeps nothing."""
        return self.decoder.new_memory() if self.config.decoder_cache else None

    def decode_tile(self, packed: Packed, memory: TileMemory | None) -> Tensor:
        """Like ``decode_packed`` for one decoder tile whose time counts from 0, after those that ``memory`` saw."""
        if memory is None:
            return self.decode_packed(packed)
        packed = packed.to(self.device)
        steps = packed.coords[:, 1].long()
        return self.decoder.decode_tile(packed.feats, packed.coords, steps, memory, PATCH_FEATURES)

    def stamp(self, kind: str, values: Tensor, coords: Tensor, **geometry: Any) -> Tokens:
        """``Tokens`` that carry this model's name, weights (those when the call began) and dtype of computation."""
        facts = {"model": self.config.name, "weights": self.last_hash, "fsq": self.config.fsq_levels, **geometry}
        return Tokens(kind=kind, values=values, coords=coords, compute_dtype=self.compute_dtype, **facts)

    def check_origin(self, tokens: Any) -> None:
        """Raise ``ValueError`` unless this model made the tokens.

        Tokens that another dtype computed are taken: latents and codes mean the same in each.
        """
        self._check_origin(tokens, self.weights_hash)

    def _check_origin(self, tokens: Any, ours: str) -> None:
        if tokens.weights != ours:
            raise ValueError(
                f"the tokens were made by {shortened(tokens.model)!r} with weights {shortened(tokens.weights[:12])}, "
                f"and this is {self.config.name!r} with weights {ours[:12]}"
            )
        if tokens.value_range != (-1.0, 1.0) or (tokens.kind == "discrete" and tokens.fsq != self.config.fsq_levels):
            raise ValueError(
                f"the tokens say that {self.config.name!r} made them, from other pixels or codes than it has: "
                f"value_range {shortened(tokens.value_range)}, fsq {shortened(tokens.fsq)}"
            )
