"""The tokenizer: pictures to tokens and back, and the packed calls below that."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..config import FRAME_FEATURES, PATCH_FEATURES, ModelConfig
from ..media.patchify import image_to_patches, patches_to_image, to_pixels, to_uint8
from ..tokens import Packed, Tokens
from .decoder import Decoder
from .encoder import Encoder
from .fsq import FSQ
from .kl import Posterior
from .layout import build_layout

TOKEN_BUDGET = 16384
"""Tokens that go through the network at once; one larger picture still goes alone."""


@dataclass(frozen=True)
class Encoded:
    """What the encoder says of a packed batch."""

    moments: Tensor
    """fp32 [N, 2 * latent_channels]: mean and log-variance."""
    hidden: Tensor
    """[N, W], after the final norm."""
    pooled: Tensor | None
    """fp32 [B, W] of unit length; None where pooling was not asked for."""

    @property
    def posterior(self) -> Posterior:
        """The diagonal Gaussian of the moments."""
        return Posterior(self.moments)


class AToken(nn.Module):
    """Encoder, bottleneck and decoder. A config alone gives random weights; ``atoken.load`` brings trained ones."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.proj = nn.Linear(config.width, 2 * config.latent_channels, bias=False)
        self.decoder = Decoder(config)
        self.fsq = FSQ(config.fsq_levels, config.fsq_group)
        self._known_hash: tuple[int, str] | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.proj.weight.device

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the weights as they were loaded, widened to fp32; counted anew after they changed."""
        if self._known_hash is None or self._known_hash[0] != self._changes():
            self.remember_hash(fingerprint(self.state_dict()))
        assert self._known_hash is not None
        return self._known_hash[1]

    def remember_hash(self, digest: str) -> None:
        """Keep ``digest`` as the hash of the weights as they are now."""
        self._known_hash = (self._changes(), digest)

    def _changes(self) -> int:
        """Grows with every change in place, such as an optimizer's step."""
        return sum(parameter._version for parameter in self.parameters() if not parameter.is_inference())

    def encode_packed(self, packed: Packed, *, pool: bool = True) -> Encoded:
        """Encode patches: feats [N, 3072], or [N, 768] where the other three frames are zero, in [-1, 1].

        Samples do not see each other. Differentiable. Raises ``ValueError`` for another number of features.
        """
        if packed.feats.shape[1] not in (FRAME_FEATURES, PATCH_FEATURES):
            raise ValueError(
                f"feats need {PATCH_FEATURES} numbers (or {FRAME_FEATURES}, frame 0 alone), not {packed.feats.shape[1]}"
            )
        packed = packed.to(self.device)
        layout = build_layout(packed.coords, self.config.encoder_tile, self.config.head_dim)
        tokens, hidden = self.encoder(packed.feats, layout)
        moments = self.proj(hidden if self.config.latent_norm else tokens).float()
        pooled = self.encoder.head(hidden, packed.coords[:, 0].long()) if pool else None
        return Encoded(moments, hidden, pooled)

    def decode_packed(self, packed: Packed, *, features: int = PATCH_FEATURES) -> Tensor:
        """Decode latents (or FSQ codes) feats [N, latent_channels] to patches [N, ``features``], nominally in [-1, 1].

        ``features=768`` computes frame 0 alone. Differentiable. Raises ``ValueError`` for another number of channels.
        """
        if packed.feats.shape[1] != self.config.latent_channels:
            raise ValueError(f"latents need {self.config.latent_channels} channels, not {packed.feats.shape[1]}")
        packed = packed.to(self.device)
        return self.decoder(packed.feats, packed.coords, features)

    @torch.no_grad()
    def encode(
        self,
        pictures: Any,
        *,
        kind: str | None = None,
        value_range: tuple[float, float] | None = None,
        layout: str | None = None,
        sample: bool = False,
        generator: torch.Generator | None = None,
        token_budget: int = TOKEN_BUDGET,
    ) -> Any:
        """Tokens of one picture, or a list of tokens for a list of pictures of any sizes.

        A picture is a path, a PIL image, a uint8 array (HWC) or tensor (CHW), or a float one with its
        ``value_range``; ``layout`` ("HWC" or "CHW") overrides the order of the axes. ``kind`` is "continuous" (the
        posterior's mean, or a draw with ``sample=True`` and an optional ``generator`` on the model's device) or
        "discrete"; by default the first of ``config.kinds``. Raises ``ValueError`` for bad input.
        """
        kind = self._kind(kind, sample)
        if not isinstance(pictures, list | tuple):
            return self.encode([pictures], kind=kind, value_range=value_range, layout=layout, sample=sample,
                               generator=generator, token_budget=token_budget)[0]  # fmt: skip
        tokens: list[Tokens] = []
        for batch, geometries in self._batches(pictures, value_range, layout, token_budget):
            posterior = self.encode_packed(batch, pool=False).posterior
            if kind == "discrete":
                values = self.fsq.codes_to_indices(self.fsq(posterior.mode())).to(torch.int32).to(torch.uint16)
            else:
                values = posterior.sample(generator) if sample else posterior.mode()
            parts = zip(
                values.cpu().split(batch.lengths), batch.coords[:, 1:].split(batch.lengths), geometries, strict=True
            )
            tokens += [self._tokens(kind, part, coords, geometry) for part, coords, geometry in parts]
        return tokens

    @torch.no_grad()
    def decode(self, tokens: Tokens | Sequence[Tokens], *, token_budget: int = TOKEN_BUDGET) -> Any:
        """The picture of one ``Tokens`` as uint8 HWC in its original size, or a list of them for a list.

        Raises ``ValueError`` for tokens that another model made.
        """
        if isinstance(tokens, Tokens):
            return self.decode([tokens], token_budget=token_budget)[0]
        pictures: list[np.ndarray] = []
        for item in tokens:
            self._check_origin(item)
        for group in budget_batches([len(item) for item in tokens], token_budget):
            items = [tokens[i] for i in group]
            batch = Packed.cat([(item.latents.float(), item.coords) for item in items])
            patches = self.decode_packed(batch, features=FRAME_FEATURES).split(batch.lengths)
            pictures += [
                to_uint8(patches_to_image(p, item.grid, item.box)) for p, item in zip(patches, items, strict=True)
            ]
        return pictures

    @torch.no_grad()
    def embed(
        self,
        pictures: Any,
        *,
        value_range: tuple[float, float] | None = None,
        layout: str | None = None,
        token_budget: int = TOKEN_BUDGET,
    ) -> Tensor:
        """Embeddings of a list of pictures (see ``encode``): fp32 [B, W] of unit length, on the CPU."""
        if not isinstance(pictures, list | tuple):
            pictures = [pictures]
        vectors = []
        for batch, _ in self._batches(pictures, value_range, layout, token_budget):
            vectors.append(self.encode_packed(batch).pooled)
        return torch.cat([vector.cpu() for vector in vectors if vector is not None])

    def save_pretrained(self, directory: str | Path) -> None:
        """Write config.json and model.safetensors, which ``atoken.load`` reads. Raises ``OSError``."""
        from ..weights.files import save_model

        save_model(self, Path(directory))

    def _batches(self, pictures: Sequence[Any], value_range: Any, layout: str | None, token_budget: int) -> Any:
        """Packed batches of neighbouring pictures within the token budget, each with its geometries."""
        pending: list[tuple[Tensor, Tensor]] = []
        geometries: list[dict[str, Any]] = []
        for picture in pictures:
            pixels = to_pixels(_array(picture), value_range=value_range, layout=layout)
            patches, coords, geometry = image_to_patches(pixels)
            if pending and sum(len(p) for p, _ in pending) + len(patches) > token_budget:
                yield Packed.cat(pending), geometries
                pending, geometries = [], []
            pending.append((patches, coords))
            geometries.append(geometry)
        if pending:
            yield Packed.cat(pending), geometries

    def _kind(self, kind: str | None, sample: bool) -> str:
        kind = kind or self.config.kinds[0]
        if kind not in self.config.kinds:
            known = " and ".join(self.config.kinds)
            raise ValueError(f"the weights of {self.config.name!r} were trained for {known} tokens, not {kind!r}")
        if sample and kind == "discrete":
            raise ValueError("discrete tokens cannot be sampled; only the continuous posterior can")
        return kind

    def _tokens(self, kind: str, values: Tensor, coords: Tensor, geometry: dict[str, Any]) -> Tokens:
        fsq = (self.config.fsq_levels, self.config.fsq_group)
        return Tokens(kind, values, coords, model=self.config.name, weights=self.weights_hash, fsq=fsq, **geometry)

    def _check_origin(self, tokens: Tokens) -> None:
        if tokens.weights != self.weights_hash:
            raise ValueError(
                f"the tokens were made by {tokens.model!r} with weights {tokens.weights[:12]}, "
                f"and this is {self.config.name!r} with weights {self.weights_hash[:12]}"
            )
        if tokens.modality != "image":
            raise ValueError(f"decode makes pictures; these are tokens of modality {tokens.modality!r}")


def budget_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group neighbouring items into batches of at most ``budget`` tokens; a larger item goes alone."""
    batches: list[list[int]] = []
    used = 0
    for index, length in enumerate(lengths):
        if not batches or used + length > budget:
            batches.append([])
            used = 0
        batches[-1].append(index)
        used += length
    return batches


def fingerprint(state: dict[str, Tensor]) -> str:
    """SHA-256 over names, shapes and fp32 values of a state dict, so that it does not depend on the stored dtype."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name} {list(state[name].shape)}\n".encode())
        digest.update(state[name].detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _array(picture: Any) -> Any:
    """A file or PIL image as a uint8 HWC array; arrays and tensors as they are."""
    if isinstance(picture, np.ndarray | Tensor):
        return picture
    from ..media.image import read_image

    return read_image(picture)
