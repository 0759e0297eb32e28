"""The tokenizer: pictures to tokens and back, and the packed calls below that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import codec
from ..config import FRAME_FEATURES, KINDS, PATCH_FEATURES, ModelConfig
from ..core.text import shortened
from ..media.frames import Clip
from ..render.gaussians import Gaussians
from ..token_file import TokenFile
from ..tokens import Packed, Tokens
from .decoder import Decoder
from .encoder import Encoder
from .fsq import FSQ
from .gaussians import GaussianDecoder
from .identity import HEAD, Identity, fingerprint, tokenizer_hash, without_head
from .kl import Posterior
from .memory import TileMemory

__all__ = ["HEAD", "AToken", "Encoded", "fingerprint", "tokenizer_hash", "without_head"]


@dataclass(frozen=True)
class Encoded:
    """What the encoder says of a packed batch."""

    moments: Tensor
    """fp32 [N, 2 * latent_channels]: mean and log-variance."""
    hidden: Tensor
    """[N, W], after the final norm."""
    pooled: Tensor | None
    """fp32 [B, embed_dim or W] of unit length; None where pooling was not asked for."""

    @property
    def posterior(self) -> Posterior:
        """The diagonal Gaussian of the moments."""
        return Posterior(self.moments)


class AToken(Identity):
    """Encoder, bottleneck and decoder. A config alone gives random weights; ``atoken.load`` brings trained ones."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.proj = nn.Linear(config.width, 2 * config.latent_channels, bias=False)
        self.decoder = Decoder(config)
        self.fsq = FSQ(config.fsq_levels)
        self.gaussians = None if config.gaussians is None else GaussianDecoder(config.gaussians)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.proj.weight.device

    @property
    def compute_dtype(self) -> str:
        """Dtype of the encoder's weights, as "float32": what it computes in, but for norms and the projection."""
        return str(self.encoder.input_layer.weight.dtype).removeprefix("torch.")

    def encode_packed(self, packed: Packed, *, pool: bool = True) -> Encoded:
        """Encode patches: feats [N, 3072], or [N, 768] where the other three frames are zero, in [-1, 1].

        Samples do not see each other. Differentiable. Raises ``ValueError`` for another number of features.
        """
        if packed.feats.shape[1] not in (FRAME_FEATURES, PATCH_FEATURES):
            raise ValueError(
                f"feats need {PATCH_FEATURES} numbers (or {FRAME_FEATURES}, frame 0 alone), not {packed.feats.shape[1]}"
            )
        packed = packed.to(self.device)
        layout = packed.layout(self.config.encoder_tile, self.config.head_dim)
        tokens, hidden = self.encoder(packed.feats, layout)
        moments = self._moments(hidden if self.config.latent_norm else tokens)
        pooled = self.encoder.head(hidden, packed.coords[:, 0].long()) if pool else None
        return Encoded(moments, hidden, pooled)

    def _moments(self, tokens: Tensor) -> Tensor:
        """The latent projection in fp32, whatever the dtype of tokens [N, W] and weights: [N, 2 * latent_channels]."""
        with torch.autocast(tokens.device.type, enabled=False):  # neighbouring FSQ levels need more bits than bf16 has
            return F.linear(tokens.float(), self.proj.weight.float())

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

    @torch.no_grad()
    def encode(
        self,
        sources: Any,
        *,
        kind: str | None = None,
        value_range: tuple[float, float] | None = None,
        layout: str | None = None,
        sample: bool = False,
        generator: torch.Generator | None = None,
        token_budget: int = codec.TOKEN_BUDGET,
        spatial_tile: int | None = None,
    ) -> Any:
        """Tokens of one source, or a list of tokens for a list of sources of any sizes.

        A picture is a path, a PIL image, a uint8 array (HWC) or tensor (CHW), or a float one with its
        ``value_range``; ``layout`` ("HWC" or "CHW") overrides the order of the axes. A video is a path,
        ``atoken.open_video(...)`` or ``atoken.Clip(frames, fps=...)``. ``kind`` is "continuous" (the
        posterior's mean, or a draw with ``sample=True`` and an optional ``generator`` on the model's device) or
        "discrete"; by default the first of ``config.kinds``. Large pictures and frames are encoded in tiles of
        ``spatial_tile`` pixels a side (a multiple of 16; 0: whole), by default ``config.spatial_tile``; the tokens keep
        it, so that ``decode`` does the same. Raises ``ValueError`` for bad input.
        """
        options = codec.EncodeOptions(
            self._kind(kind, sample), value_range, layout, sample, generator, token_budget, spatial_tile
        )
        many = isinstance(sources, list | tuple)
        _ = self.weights_hash  # counted anew if the weights have changed
        tokens = codec.encode(self, sources if many else [sources], options)
        return tokens if many else tokens[0]

    @torch.no_grad()
    def decode(self, tokens: Tokens | Sequence[Tokens], *, token_budget: int = codec.TOKEN_BUDGET) -> Any:
        """The picture of one ``Tokens`` as uint8 HWC in its original size, or a list of them for a list.

        Videos become uint8 [T, H, W, 3], as many frames as went in; ``tokens.times`` says when they are shown.
        3D tokens become ``Gaussians`` in the unit cube, whose ``transform`` leads to the asset's frame. Raises
        ``ValueError`` for tokens that another model made or that contradict themselves.
        """
        ours = self.weights_hash
        items: list[Any] = list(tokens) if isinstance(tokens, list | tuple) else [tokens]
        for item in items:
            if not isinstance(item, Tokens):
                raise ValueError(
                    f"decode takes Tokens or a list of them, not {type(item).__name__}; "
                    "atoken.Tokens.load reads a token file, and decode_stream takes the path of a video's"
                )
            self._check_origin(item, ours)
        results = codec.decode(self, items, token_budget)
        return results[0] if isinstance(tokens, Tokens) else results

    def encode_stream(
        self,
        source: Any,
        *,
        kind: str | None = None,
        sample: bool = False,
        generator: torch.Generator | None = None,
        spatial_tile: int | None = None,
    ) -> Iterator[Tokens]:
        """Tokens of a video tile by tile (16 frames), each complete in itself, so that length does not cost memory.

        ``source`` is a path, an ``atoken.open_video`` with its options, or an ``atoken.Clip`` of arrays. Joined, the
        tiles are what ``encode`` gives, bit for bit; ``spatial_tile`` is as there. Raises ``ValueError`` for bad
        input, some of it on the way.
        """
        options = codec.EncodeOptions(
            self._kind(kind, sample), sample=sample, generator=generator, spatial_tile=spatial_tile
        )
        return self._watched(codec.videos.encode_stream(self, source, options))

    def _watched(self, tiles: Iterator[Tokens]) -> Iterator[Tokens]:
        """The tiles, each of them with the hash that the weights have when it is computed."""
        _ = self.weights_hash
        for tile in tiles:
            yield tile
            _ = self.weights_hash  # before the next one is

    def decode_stream(self, tokens: Tokens | TokenFile | str | Path | Iterable[Tokens]) -> Iterator[Clip]:
        """The frames of a video tile by tile, with their times: ``.frames`` uint8 [T, H, W, 3] and ``.times``.

        ``tokens`` is a ``Tokens`` (of which ``tokens.frames(a, b)`` takes a part), the path of a token file, which is
        read step by step, or the tiles of ``encode_stream``. Raises ``ValueError`` for tokens of another model.
        """
        return codec.videos.decode_stream(self, tokens)

    @torch.no_grad()
    def embed(
        self,
        sources: Any,
        *,
        value_range: tuple[float, float] | None = None,
        layout: str | None = None,
        token_budget: int = codec.TOKEN_BUDGET,
    ) -> Tensor:
        """Embeddings of a list of sources (see ``encode``): fp32 [B, embed_dim or W] of unit length, on the CPU."""
        sources = sources if isinstance(sources, list | tuple) else [sources]
        options = codec.EncodeOptions(self.config.kinds[0], value_range, layout, token_budget=token_budget)
        return codec.embed(self, sources, options)

    def stamp(self, kind: str, values: Tensor, coords: Tensor, **geometry: Any) -> Tokens:
        """``Tokens`` that carry this model's name, weights (those when the call began) and dtype of computation."""
        facts = {"model": self.config.name, "weights": self.last_hash, "fsq": self.config.fsq_levels, **geometry}
        return Tokens(kind=kind, values=values, coords=coords, compute_dtype=self.compute_dtype, **facts)

    def save_pretrained(self, directory: str | Path, *, storage: str | None = None) -> None:
        """Write config.json and model.safetensors, which ``atoken.load`` reads.

        ``storage="int8"`` keeps the matrices in one byte a weight, which rounds them. Raises ``OSError``.
        """
        from ..weights.files import save_model

        save_model(self, Path(directory), storage)

    def _kind(self, kind: str | None, sample: bool) -> str:
        kind = kind or self.config.kinds[0]
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}: give {' or '.join(map(repr, KINDS))}")
        if kind not in self.config.kinds:
            known = " and ".join(self.config.kinds)
            raise ValueError(f"the weights of {self.config.name!r} were trained for {known} tokens, not {kind!r}")
        if sample and kind == "discrete":
            raise ValueError("discrete tokens cannot be sampled; only the continuous posterior can")
        return kind

    def check_origin(self, tokens: Tokens | TokenFile) -> None:
        """Raise ``ValueError`` unless this model made the tokens.

        Tokens that another dtype computed are taken: latents and codes mean the same in each.
        """
        self._check_origin(tokens, self.weights_hash)

    def _check_origin(self, tokens: Tokens | TokenFile, ours: str) -> None:
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
