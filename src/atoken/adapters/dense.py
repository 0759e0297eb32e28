"""Batches of one size as dense arrays, channels first, as most libraries pass them: to latents and back.

Differentiable. Pictures are [B, 3, H, W] and clips [B, 3, T, H, W] in [-1, 1]; their latents are [B, C, h, w] and
[B, C, t, h, w].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..codec.windows import Window, windows_of
from ..media.patchify import ONE_FRAME, patchify, unpatchify
from ..nn.packed import Packed, dense_coords
from ..nn.posterior import Posterior
from ..tokenizer.net import TokenizerNet
from ..tokens.patch import FRAME_FEATURES, PATCH, PATCH_FEATURES, spatial_tile_of


class Raster(NamedTuple):
    """Numbers on a grid of tokens."""

    values: Tensor
    """[B, t, h, w, C]."""
    moving: bool
    """Whether they are those of clips."""

    @classmethod
    def of(cls, array: Tensor, what: str) -> Raster:
        """From [B, C, h, w] or [B, C, t, h, w]. Raises ``ValueError`` for other axes."""
        if array.ndim not in (4, 5) or 0 in array.shape:
            raise ValueError(f"{what} are [B, C, h, w] or [B, C, t, h, w], not {list(array.shape)}")
        moving = array.ndim == 5
        return cls((array if moving else array.unsqueeze(2)).movedim(1, -1), moving)

    def channels_first(self) -> Tensor:
        """[B, C, h, w] of pictures, [B, C, t, h, w] of clips."""
        array = self.values.movedim(-1, 1)
        return array if self.moving else array.squeeze(2)


def patches_of(pixels: Tensor) -> Raster:
    """The patches of pictures [B, 3, H, W] or clips [B, 3, T, H, W], floats in [-1, 1].

    The last frame is repeated where four do not divide T. Raises ``ValueError`` for other axes, and for sides that are
    not whole patches.
    """
    if pixels.ndim not in (4, 5) or pixels.shape[1] != 3 or 0 in pixels.shape or not pixels.is_floating_point():
        raise ValueError(
            f"pixels are floats [B, 3, H, W] or [B, 3, T, H, W] in [-1, 1], not {pixels.dtype} {list(pixels.shape)}"
        )
    height, width = pixels.shape[-2:]
    if height % PATCH[1] or width % PATCH[2]:
        raise ValueError(
            f"{height} x {width} pixels are not whole patches of {PATCH[1]} x {PATCH[2]}: crop, pad or resize them"
        )
    moving = pixels.ndim == 5
    frames = (pixels if moving else pixels.unsqueeze(2)).movedim(1, -1)  # [B, T, H, W, 3]
    return Raster(patchify(frames, PATCH if moving else ONE_FRAME), moving)


def pixels_of(patches: Raster) -> Tensor:
    """Pictures [B, 3, H, W] or clips [B, 3, 4 * t, H, W] of patches [B, t, h, w, 768 or 3072]."""
    frames = unpatchify(patches.values, PATCH if patches.moving else ONE_FRAME)
    return Raster(frames, patches.moving).channels_first()


def packed_of(raster: Tensor) -> Packed:
    """Numbers [B, t, h, w, C] as a packed batch."""
    coords = dense_coords((*raster.shape[1:4], 1)).to(raster.device)
    return Packed.cat([(sample.flatten(0, 2), coords) for sample in raster])


def encode(net: TokenizerNet, pixels: Tensor, tile: int | None = None) -> Tensor:
    """Moments fp32 [B, 2C, (t,) h, w] of pixels, in spatial tiles of about ``tile`` pixels where it is given."""

    def moments(part: Tensor) -> Tensor:
        return net.encode_packed(packed_of(part), pool=False).moments

    patches = patches_of(pixels)
    return Raster(_by_windows(moments, patches.values, tile, grown=False), patches.moving).channels_first()


def decode(net: TokenizerNet, latents: Tensor, tile: int | None = None) -> Tensor:
    """Pixels [B, 3, (4 * t,) H, W], nominally in [-1, 1], of latents or FSQ codes; ``tile`` as in ``encode``."""
    raster = Raster.of(latents, "latents")
    features = PATCH_FEATURES if raster.moving else FRAME_FEATURES

    def patches(part: Tensor) -> Tensor:
        return net.decode_packed(packed_of(part), features=features)

    return pixels_of(raster._replace(values=_by_windows(patches, raster.values, tile, grown=True)))


def sample(moments: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A draw [B, C, ...] of the posterior of moments [B, 2C, ...]."""
    return Posterior(moments.movedim(1, -1)).sample(generator).movedim(-1, 1)


def codes(net: TokenizerNet, moments: Tensor) -> tuple[Tensor, Tensor]:
    """FSQ codes fp32 [B, C, ...], and their indices int64 [B, G, ...], of moments [B, 2C, ...].

    Gradients of codes go straight through. Raises ``ValueError`` for a model of continuous tokens.
    """
    net.config.check_kind("discrete")
    values = net.fsq(moments.chunk(2, 1)[0].movedim(1, -1))
    return values.movedim(-1, 1), net.fsq.codes_to_indices(values.detach()).movedim(-1, 1)


def codes_of(net: TokenizerNet, indices: Tensor) -> Tensor:
    """FSQ codes fp32 [B, C, ...] of indices [B, G, ...] of any integer dtype.

    Raises ``ValueError`` for an index outside of its codebook, and for a model of continuous tokens.
    """
    net.config.check_kind("discrete")
    if indices.is_floating_point() or indices.dtype == torch.bool:
        raise ValueError(f"indices must be integers, not {indices.dtype}")
    return net.fsq.indices_to_codes(indices.movedim(1, -1)).movedim(-1, 1)


def maps(net: TokenizerNet, pixels: Tensor, depths: Sequence[int]) -> list[Tensor]:
    """The residual stream [B, W, (t,) h, w] after each number of encoder blocks in ``depths`` (0: before the first)."""
    patches = patches_of(pixels)
    layers = net.encode_packed(packed_of(patches.values), pool=False, hidden_layers=depths).hidden_layers
    shape = patches.values.shape[:4]
    return [Raster(layer.view(*shape, -1), patches.moving).channels_first() for layer in layers]


def _by_windows(network: Callable[[Tensor], Tensor], raster: Tensor, tile: int | None, *, grown: bool) -> Tensor:
    """``network`` ([B, t, h, w, C] to [N, F]) over each window of a raster: [B, t, H, W, F].

    ``grown`` lets it see the tokens around a window, as the decoder does (``codec.windows``).
    """
    samples, steps, rows, columns, _ = raster.shape
    grid = (steps, rows, columns, 1)
    canvas: Tensor | None = None
    for window in windows_of(grid, spatial_tile_of(grid, tile)):
        seen = window.grown(rows, columns) if grown else window
        found = network(_part(raster, seen)).view(samples, steps, *seen.shape, -1)
        own = _part(found, window.within(seen))
        if own.shape[2:4] == (rows, columns):
            return own
        if canvas is None:
            canvas = own.new_empty(samples, steps, rows, columns, own.shape[-1])
        _part(canvas, window).copy_(own)
    assert canvas is not None
    return canvas


def _part(raster: Tensor, window: Window) -> Tensor:
    """A view [B, t, rows, columns, ...] of [B, t, h, w, ...]."""
    return raster[:, :, window.top : window.bottom, window.left : window.right]
