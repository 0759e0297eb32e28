"""The network over padded batches with a mask, in operations that torch.export and ONNX know.

The same parameters and numbers as ``TokenizerNet`` over packed batches, for runtimes that want dense tensors: B samples
of at most N tokens each, feats [B, N, C] at coords int64 [B, N, 4] = (t, x, y, z), mask bool [B, N] true where a token
is. Time counts from 0 in each sample. What comes out where the mask is false has no meaning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn.block import Block
from ..nn.norm import QKNorm
from ..nn.packed import dense_coords
from ..nn.position import PositionTable
from ..nn.rope import BASE
from ..tokenizer.net import TokenizerNet
from ..tokens.patch import FRAME_FEATURES, PATCH

UNSEEN = -1e30
"""What is added to scores of keys that a query does not see: exp is 0, and no sample gives NaN."""


class PaddedEncoder(nn.Module):
    """feats [B, N, 3072] (768 for pictures and voxels), coords, mask -> a tuple of

    latents fp32 [B, N, C] (the posterior's mean) and their log-variance [B, N, C], or for a discrete model indices
    int64 [B, N, G]; hidden [B, N, W]; pooled fp32 [B, D] of unit length.
    """

    def __init__(self, net: TokenizerNet, kind: str) -> None:
        super().__init__()
        net.config.check_kind(kind)
        self.net, self.kind, self.levels = net, kind, Levels(net.config.fsq_levels)

    @property
    def outputs(self) -> list[str]:
        """Names of what comes out."""
        return [*(["indices"] if self.kind == "discrete" else ["latents", "logvar"]), "hidden", "pooled"]

    def forward(self, feats: Tensor, coords: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        net, config = self.net, self.net.config
        places = Places(coords, mask, config.encoder_tile, config.head_dim)
        weight = net.encoder.input_layer.weight[:, : feats.shape[-1]]
        x = F.linear(feats, weight, net.encoder.input_layer.bias)
        x = x + positions(net.encoder.pos_embedder, places)
        x = _blocks(net.encoder.blocks, x, places, config.gelu)
        hidden = net.encoder.post_layernorm(x)
        mean, logvar = F.linear(hidden if config.latent_norm else x, net.proj.weight).chunk(2, -1)
        pooled = self._pooled(hidden, mask)
        if self.kind == "discrete":
            return self.levels.indices(mean), hidden, pooled
        return mean, logvar.clamp(-30.0, 20.0), hidden, pooled

    def _pooled(self, hidden: Tensor, mask: Tensor) -> Tensor:
        head, config = self.net.encoder.head, self.net.config
        query = head.attention.to_q(head.probe)[None, None].expand(hidden.shape[0], 1, -1)  # [B, 1, W]
        k, v = head.attention.to_kv(hidden).chunk(2, -1)
        query, k, v = (_heads(part, config.heads) for part in (query, k, v))
        pooled = head.attention.to_out(_attention(query, k, v, mask[:, None, None])[:, 0])
        up, _, down = head.mlp.mlp
        pooled = pooled + down(F.gelu(up(head.layernorm(pooled)), approximate="tanh"))
        return F.normalize(head.projection(pooled), dim=-1)


class PaddedDecoder(nn.Module):
    """latents fp32 [B, N, C] (for a discrete model indices int64 [B, N, G]), coords, mask -> patches [B, N, 3072].

    ``features=768`` gives frame 0 alone. Raises ``ValueError`` for a model whose decoder remembers earlier tiles.
    """

    def __init__(self, net: TokenizerNet, kind: str, features: int) -> None:
        super().__init__()
        net.config.check_kind(kind)
        if net.config.decoder_cache:
            raise ValueError(
                f"{net.config.name!r} has decoder_cache {net.config.decoder_cache}: a decoder that remembers the tile "
                "before cannot be exported as one graph"
            )
        self.net, self.kind, self.features, self.levels = net, kind, features, Levels(net.config.fsq_levels)

    def forward(self, latents: Tensor, coords: Tensor, mask: Tensor) -> Tensor:
        """See the class."""
        net, config = self.net, self.net.config
        places = Places(coords, mask, config.decoder_tile, config.head_dim)
        values = self.levels.codes(latents) if self.kind == "discrete" else latents
        x = net.decoder.input_layer(values) + positions(net.decoder.pos_embedder, places)
        x = _blocks(net.decoder.blocks, x, places, config.gelu)
        if config.output_norm:
            x = _rms(x, net.decoder.out_norm)
        return F.linear(x, net.decoder.out_layer.weight[: self.features])


class PixelEncoder(nn.Module):
    """Pixels [B, 3, H, W] or [B, 3, T, H, W] in [-1, 1] of one fixed size -> as ``PaddedEncoder``, but on the grid:

    latents [B, C, (t,) h, w], or indices [B, G, (t,) h, w]; hidden [B, W, (t,) h, w]; pooled [B, D].
    """

    coords: Tensor

    def __init__(self, net: TokenizerNet, kind: str, size: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder, self.grid, self.moving = PaddedEncoder(net, kind), grid_of(size), len(size) == 3
        self.register_buffer("coords", dense_coords((*self.grid, 1)).long()[None], persistent=False)

    @property
    def outputs(self) -> list[str]:
        """Names of what comes out."""
        return self.encoder.outputs

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        (t, h, w), frames = self.grid, PATCH[0] if self.moving else 1
        blocks = pixels.reshape(-1, 3, t, frames, h, PATCH[1], w, PATCH[2]).permute(0, 2, 4, 6, 3, 5, 7, 1)
        feats = blocks.reshape(-1, t * h * w, frames * FRAME_FEATURES)
        coords = self.coords.expand(feats.shape[0], -1, -1)
        *parts, pooled = self.encoder(feats, coords, torch.ones_like(coords[..., 0], dtype=torch.bool))
        grid = self.grid if self.moving else self.grid[1:]
        return (*(part.transpose(1, 2).reshape(-1, part.shape[2], *grid) for part in parts), pooled)


class PixelDecoder(nn.Module):
    """Latents or indices [B, C, (t,) h, w] of one fixed size -> pixels [B, 3, (4 t,) H, W], nominally in [-1, 1]."""

    coords: Tensor

    def __init__(self, net: TokenizerNet, kind: str, size: tuple[int, ...]) -> None:
        super().__init__()
        self.grid, self.size, self.frames = grid_of(size), size, PATCH[0] if len(size) == 3 else 1
        self.decoder = PaddedDecoder(net, kind, FRAME_FEATURES * self.frames)
        self.channels = net.num_codebooks if kind == "discrete" else net.config.latent_channels
        self.register_buffer("coords", dense_coords((*self.grid, 1)).long()[None], persistent=False)

    def forward(self, latents: Tensor) -> Tensor:
        """See the class."""
        values = latents.reshape(-1, self.channels, math.prod(self.grid)).transpose(1, 2)
        coords = self.coords.expand(values.shape[0], -1, -1)
        patches = self.decoder(values, coords, torch.ones_like(coords[..., 0], dtype=torch.bool))
        blocks = patches.reshape(-1, *self.grid, self.frames, *PATCH[1:], 3).permute(0, 7, 1, 4, 2, 5, 3, 6)
        return blocks.reshape(-1, 3, *self.size)


def grid_of(size: tuple[int, ...]) -> tuple[int, int, int]:
    """Steps, rows and columns of tokens of (H, W) or (T, H, W) pixels.

    Raises ``ValueError`` unless they are whole patches.
    """
    sides = (1, *size) if len(size) == 2 else size
    steps = sides[0] if len(size) == 2 else sides[0] / PATCH[0]
    grid = (steps, sides[1] / PATCH[1], sides[2] / PATCH[2])
    if min(sides) < 1 or any(part != int(part) for part in grid):
        raise ValueError(f"size {size} is not made of whole patches of {PATCH[0]} frames of {PATCH[1]} x {PATCH[2]}")
    return int(grid[0]), int(grid[1]), int(grid[2])


class Places:
    """What coords and mask decide: who sees whom, rotations, and where each token lies on the grid of its sample."""

    def __init__(self, coords: Tensor, mask: Tensor, tile: int, head_dim: int) -> None:
        t, x, y, z = coords.unbind(-1)
        tiles = torch.where(mask, torch.div(t, tile, rounding_mode="floor"), 0)
        self.seen = (tiles[:, :, None] == tiles[:, None]) & mask[:, None]  # [B, query, key]
        self.extents = [torch.where(mask, axis, 0).amax(1, keepdim=True) + 1 for axis in (x, y)]  # [B, 1] each
        self.xy = (x, y)
        pairs = head_dim // 8
        frequencies = BASE ** (-torch.arange(pairs, dtype=torch.float32, device=coords.device) / head_dim)
        axes = torch.stack([torch.remainder(t, tile), x, y, z], -1)
        turns = (axes.float()[..., None] * frequencies).flatten(-2)[:, None]  # [B, 1, N, D/2]
        self.cos, self.sin = turns.cos(), turns.sin()

    def rotate(self, x: Tensor) -> Tensor:
        """Rotate the adjacent pairs of x [B, H, N, D], as ``nn.rope.rotate`` does."""
        even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack([even * self.cos - odd * self.sin, even * self.sin + odd * self.cos], -1).flatten(-2)


def positions(table: PositionTable, places: Places) -> Tensor:
    """The learned table, resized to the grid of each sample and read at its tokens: [B, N, W].

    Bilinear and antialiased as ``F.interpolate``: at place i of n the entries of a side of S weigh
    max(0, 1 - |j + 1/2 - (i + 1/2) S / n| / max(1, S / n)), divided by their sum.
    """
    entries = torch.arange(table.size, device=places.extents[0].device) + 0.5
    weights = []
    for place, extent in zip(places.xy, places.extents, strict=True):
        scale = table.size / extent.float()  # [B, 1]
        centre = (place.float() + 0.5) * scale  # [B, N]
        weight = (1 - (entries - centre[..., None]).abs() / scale.clamp_min(1)[..., None]).clamp_min(0)
        weights.append(weight / weight.sum(-1, keepdim=True).clamp_min(1e-9))  # [B, N, S]
    both = (weights[0][..., None] * weights[1][..., None, :]).flatten(-2)  # [B, N, S * S]
    return both @ table.position_embedding.weight


def _blocks(blocks: Iterable[Any], x: Tensor, places: Places, gelu: str) -> Tensor:
    for block in blocks:
        x = x + _self_attention(block, _norm(block.norm1, x), places)
        up, _, down = block.mlp.mlp
        x = x + down(F.gelu(up(_norm(block.norm2, x)), approximate=gelu))
    return x


def _self_attention(block: Block, x: Tensor, places: Places) -> Tensor:
    attention = block.attn
    q, k, v = (_heads(part, attention.heads) for part in attention.to_qkv(x).chunk(3, -1))
    norms = (attention.q_rms_norm, attention.k_rms_norm)
    q, k = (
        _head_norm(part, norm) if isinstance(norm, QKNorm) else part for part, norm in zip((q, k), norms, strict=True)
    )
    if attention.rope:
        q, k = places.rotate(q), places.rotate(k)
    return attention.to_out(_attention(q, k, v, places.seen[:, None]))


def _heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)  # [B, N, W] -> [B, H, N, D]


def _attention(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    """Attention of [B, H, n, D] where ``seen`` [B, 1, Nq, Nk] is true: [B, Nq, W]."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + torch.where(seen, 0.0, UNSEEN)
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(-2)


def _norm(norm: nn.Module, x: Tensor) -> Tensor:
    return norm(x) if isinstance(norm, nn.LayerNorm) else _rms(x, norm)


def _rms(x: Tensor, norm: Any) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * norm.weight


def _head_norm(x: Tensor, norm: QKNorm) -> Tensor:
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True).clamp_min(1e-30)) * norm.gain[:, None]


class Levels(nn.Module):
    """``nn.fsq`` without checks of values, which no graph holds."""

    middle: Tensor
    levels: Tensor
    weights: Tensor
    owner: Tensor
    bound: Tensor
    offset: Tensor
    shift: Tensor

    def __init__(self, groups: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        levels = [level for group in groups for level in group]
        self.sizes = [len(group) for group in groups]
        numbers = {
            "middle": [level // 2 for level in levels],
            "levels": levels,
            "weights": [math.prod(group[:i]) for group in groups for i in range(len(group))],
            "owner": [number for number, group in enumerate(groups) for _ in group],
        }
        for name, values in numbers.items():
            self.register_buffer(name, torch.tensor(values), persistent=False)
        bound = (self.levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        for name, tensor in (("bound", bound), ("offset", offset), ("shift", torch.atanh(offset / bound))):
            self.register_buffer(name, tensor, persistent=False)

    def indices(self, z: Tensor) -> Tensor:
        """Latents [..., C] -> int64 [..., G]."""
        rounded = (torch.tanh(z + self.shift) * self.bound - self.offset).round()
        digits = torch.minimum(torch.maximum(rounded, -self.middle), self.levels - 1 - self.middle) + self.middle
        parts = (digits.long() * self.weights).split(self.sizes, -1)
        return torch.stack([part.sum(-1) for part in parts], -1)

    def codes(self, indices: Tensor) -> Tensor:
        """int64 [..., G] -> codes fp32 [..., C] in [-1, 1]."""
        each = indices[..., self.owner]
        digits = torch.remainder(torch.div(each, self.weights, rounding_mode="floor"), self.levels)
        return (digits - self.middle).float() / self.middle
