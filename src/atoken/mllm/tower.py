"""The frozen vision tower: AToken's encoder over sources of any size and modality, as it sees them when it encodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..codec.windows import CPU_BUDGET, TOKEN_BUDGET, windows_of
from ..core.batching import within_budget
from ..media.pixels import from_uint8
from ..nn.packed import Packed, dense_coords
from ..tokenizer.config import ModelConfig
from ..tokenizer.net import TokenEncoder
from ..tokens.patch import FRAME_FEATURES
from .layout import Geometry


def state_size(config: ModelConfig, inputs: str) -> int:
    """Numbers of a token that the projector reads: the width, the latent channels, or the codebooks."""
    return {"hidden": config.width, "latents": config.latent_channels, "codes": len(config.fsq_levels)}[inputs]


class _Piece(NamedTuple):
    """Tokens of one source that the encoder sees together."""

    source: int
    members: Tensor
    """int64 [n], among the tokens of the source."""
    coords: Tensor
    """int32 [n, 4], counted from the corner of the piece."""


@torch.no_grad()
def encode(
    net: TokenEncoder,
    patches: Tensor,
    geometries: Sequence[Geometry],
    inputs: str,
    *,
    layer: int | None = None,
    frames_per_token: int = 1,
) -> list[Tensor]:
    """States of each source from uint8 ``patches`` [M, 768] of all of them, in the sources' order.

    "hidden": fp32 [N, W] after the final norm, or the residual stream after ``layer`` blocks; "latents": fp32 [N, C],
    the posterior's mean; "codes": int64 [N, G]. Large pictures and frames are seen in the windows, and clips in the
    tiles of time, in which ``AToken.encode`` sees them. Always in fp32. Raises ``ValueError`` for another number of
    patches than the tokens of the sources have.
    """
    feats = _feats(patches, geometries, frames_per_token)
    pieces = [piece for number, geometry in enumerate(geometries) for piece in _pieces(number, geometry, net.config)]
    states: list[Tensor | None] = [None] * len(geometries)
    budget = CPU_BUDGET if net.device.type == "cpu" else TOKEN_BUDGET
    with torch.autocast(net.device.type, enabled=False):
        for group in within_budget(pieces, lambda piece: len(piece.members), budget):
            parts = [from_uint8(feats[piece.source][piece.members.to(patches.device)]) for piece in group]
            widest = max(part.shape[1] for part in parts)
            parts = [F.pad(part, (0, widest - part.shape[1])) for part in parts]  # frames that are not there are 0
            packed = Packed.cat([(part, piece.coords) for part, piece in zip(parts, group, strict=True)])
            for piece, found in zip(group, _states(net, packed, inputs, layer).split(packed.lengths), strict=True):
                whole = states[piece.source]
                if whole is None:
                    whole = states[piece.source] = found.new_empty(len(geometries[piece.source]), found.shape[1])
                whole[piece.members.to(whole.device)] = found
    return [whole for whole in states if whole is not None]


def _feats(patches: Tensor, geometries: Sequence[Geometry], frames_per_token: int) -> list[Tensor]:
    """uint8 [N, 768 * frames] of each source."""
    frames = [frames_per_token if geometry.modality == "video" else 1 for geometry in geometries]
    rows = [len(geometry) * count for geometry, count in zip(geometries, frames, strict=True)]
    if patches.dtype != torch.uint8 or list(patches.shape) != [sum(rows), FRAME_FEATURES]:
        raise ValueError(
            f"the sources have {sum(rows)} patches uint8 [M, {FRAME_FEATURES}], and these are {patches.dtype} "
            f"{list(patches.shape)}"
        )
    parts = patches.split(rows)
    return [part.reshape(len(geometry), -1) for part, geometry in zip(parts, geometries, strict=True)]


def _pieces(number: int, geometry: Geometry, config: ModelConfig) -> Iterator[_Piece]:
    """What of a source is computed together: all voxels, or a window of a picture or of a tile of time."""
    if geometry.modality == "3d":
        yield _Piece(number, torch.arange(len(geometry)), geometry.coords.int())
        return
    steps, rows, columns, _ = geometry.grid
    index = torch.arange(len(geometry)).view(steps, rows, columns)
    for first in range(0, steps, config.encoder_tile):
        tile = index[first : first + config.encoder_tile]
        for window in windows_of(geometry.grid, config.spatial_tile):
            coords = dense_coords((len(tile), *window.shape, 1))
            yield _Piece(number, window.part_of(tile).flatten(), coords)


def _states(net: TokenEncoder, packed: Packed, inputs: str, layer: int | None) -> Tensor:
    encoded = net.encode_packed(packed, pool=False, hidden_layers=() if layer is None else (layer,))
    if inputs == "hidden":
        return (encoded.hidden if layer is None else encoded.hidden_layers[0]).float()
    latents = encoded.posterior.mode()
    return net.fsq.codes_to_indices(net.fsq(latents)) if inputs == "codes" else latents
