"""Start a discrete model as a trained continuous one whose latents are rotated, given bits by need, and rounded.

With four levels for each of 48 equal numbers most of the error sits in the few directions that carry most of the
picture. Here the latents are turned to the principal directions of the pixels that they stand for, and the bits of a
token are handed out one at a time, each to the direction whose error it lowers most (reverse water-filling). The
encoder's projection and the decoder's input layer absorb rotation, scale and shift, so that no layer is added. The
alignment with texts is left behind: what the pooling head learnt holds for the encoder as it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..nn.fsq import EPS, FSQ
from ..nn.layout import build_layout
from ..nn.packed import Packed
from ..pipeline.atoken import AToken
from ..tokens.patch import FRAME_FEATURES

CODE_BITS = 12
"""Bits of one code: 4096 values."""
MOST_BITS = 6
"""Bits of one quantized number: 64 levels."""
GAINS = torch.logspace(-1.2, 0.6, 37)
"""Candidate slopes, from a direction's standard deviation to the input of the quantizer's tanh."""


@dataclass(frozen=True)
class Scalar:
    """How a direction of unit deviation is quantized: ``gain * y + shift`` into FSQ, ``slope * code + offset`` out."""

    gain: float
    shift: float
    slope: float
    offset: float
    error: float
    """Mean squared error, as a share of the direction's variance."""


@torch.no_grad()
def discrete_start(model: AToken, batches: Sequence[Packed], codes: int = 8) -> AToken:
    """A model for kind "discrete" with ``codes`` codes of 12 bits a token, from a continuous one without a latent norm.

    ``batches`` hold pictures [N, 768] to measure the latents on. Raises ``ValueError`` for a model that normalises
    before its latents.
    """
    config = model.config
    if config.latent_norm:
        raise ValueError(f"a discrete start needs a model without a latent norm, and {config.name!r} has one")
    tokens, pixels = _tokens_and_pixels(model, batches)
    latents = tokens @ model.proj.weight[: config.latent_channels].T.float()

    # Pixels are best predicted as A (z - mean); U^T A z are the directions whose errors count alike in pixels.
    mean = latents.mean(0)
    centred = latents - mean
    to_pixels = torch.linalg.lstsq(centred, pixels - pixels.mean(0)).solution.T  # [768, C]
    covariance = centred.T @ centred / len(centred)
    values, vectors = torch.linalg.eigh(to_pixels @ covariance @ to_pixels.T)
    count = config.latent_channels
    to_directions = vectors.flip(1)[:, :count].T @ to_pixels  # [C, C], y = to_directions (z - mean)
    deviation = values.flip(0)[:count].clamp_min(1e-12).sqrt()

    bits, scalars = allocate(centred @ to_directions.T / deviation, deviation.square(), codes * CODE_BITS)
    groups = group_bits(bits, codes)
    order = [index for group in groups for index in group]
    levels = tuple(tuple(2 ** bits[index] for index in group) for group in groups)
    name = f"{config.name}-discrete"
    wordless = replace(config, text_tower=None, embed_dim=None, embed_tokens=None)
    started = AToken(replace(wordless, name=name, kinds=("discrete",), fsq_levels=levels, latent_channels=len(order)))
    _copy_other_weights(model, started)

    chosen = [scalars[index] for index in order]
    gain, shift, slope, offset = (
        torch.tensor([getattr(s, field) for s in chosen]) for field in ("gain", "shift", "slope", "offset")
    )
    constant = torch.linalg.lstsq(tokens, torch.ones(len(tokens), 1)).solution[:, 0]  # tokens @ constant ~ 1
    rows = (gain / deviation[order])[:, None] * to_directions[order]
    started.proj.weight.zero_()
    started.proj.weight[: len(order)] = rows @ model.proj.weight[:count].float() + torch.outer(
        shift - rows @ mean, constant
    )
    back = torch.linalg.inv(to_directions)[:, order] * deviation[order]  # z - mean = back y
    enter = model.decoder.input_layer.weight.float()
    started.decoder.input_layer.weight.copy_(enter @ (back * slope))
    started.decoder.pos_embedder.position_embedding.weight += enter @ (mean + back @ offset)
    return started


def allocate(y: Tensor, variance: Tensor, total: int) -> tuple[list[int], list[Scalar]]:
    """Bits of each direction of ``y`` [N, C] (unit deviation, ``variance`` [C] in pixels), and its quantizer then."""
    y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))[:8192]]
    options: list[dict[int, Scalar]] = [{0: Scalar(0, 0, 0, 0, 1.0)} for _ in range(y.shape[1])]

    def error(index: int, bits: int) -> float:
        if bits not in options[index]:
            options[index][bits] = best_scalar(y[:, index], 2**bits)
        return float(variance[index]) * options[index][bits].error

    bits = [0] * y.shape[1]
    for _ in range(total):
        gains = [error(i, b) - error(i, b + 1) if b < MOST_BITS else 0.0 for i, b in enumerate(bits)]
        bits[max(range(len(gains)), key=gains.__getitem__)] += 1
    return bits, [option[b] for option, b in zip(options, bits, strict=True)]


def best_scalar(y: Tensor, levels: int) -> Scalar:
    """The quantizer of ``levels`` levels with the least squared error on y [N], decoded by a straight line."""
    fsq = FSQ([(levels,)])
    shift = 0.0 if levels % 2 else -math.atanh(1 / ((levels - 1) * (1 + EPS)))  # even levels lie about zero then
    best = None
    for gain in GAINS.tolist():
        code = fsq(gain * y[:, None] + shift)[:, 0]
        spread = code.var()
        slope = float(((code - code.mean()) * y).mean() / spread) if spread > 0 else 0.0
        offset = float(y.mean() - slope * code.mean())
        error = float((slope * code + offset - y).square().mean())
        if best is None or error < best.error:
            best = Scalar(gain, shift, slope, offset, error)
    assert best is not None
    return best


def group_bits(bits: Sequence[int], codes: int) -> list[list[int]]:
    """Divide the directions among ``codes`` codes so that each holds just 12 bits, those with most bits first.

    Raises ``ValueError`` where they cannot be divided so.
    """
    left = {size: [i for i, b in enumerate(bits) if b == size] for size in sorted(set(bits) - {0}, reverse=True)}
    sizes = _divide({size: len(members) for size, members in left.items()}, codes)
    if sizes is None:
        raise ValueError(f"the bits {list(bits)} do not divide into {codes} codes of {CODE_BITS}")
    return [[left[size].pop(0) for size in group] for group in sizes]


def _divide(counts: dict[int, int], codes: int) -> list[list[int]] | None:
    """Groups of sizes with the sum CODE_BITS that use up ``counts``, found by depth-first search, or None."""
    if codes == 0:
        return None if any(counts.values()) else []
    largest = next((size for size, count in counts.items() if count), None)
    if largest is None:
        return None
    for group in _fillings(counts, CODE_BITS, largest):
        if largest in group:  # some group must take it: this one
            rest = {size: count - group.count(size) for size, count in counts.items()}
            if (others := _divide(rest, codes - 1)) is not None:
                return [group, *others]
    return None


def _fillings(counts: dict[int, int], room: int, most: int) -> Iterator[list[int]]:
    """Descending lists of available sizes, none above ``most``, that fill ``room`` exactly."""
    if room == 0:
        yield []
    for size, count in counts.items():
        if count and size <= min(most, room):
            for rest in _fillings({**counts, size: count - 1}, room - size, size):
                yield [size, *rest]


def _tokens_and_pixels(model: AToken, batches: Sequence[Packed]) -> tuple[Tensor, Tensor]:
    """What the latent projection reads (fp32 [N, W]) and the frame that each token stands for (fp32 [N, 768])."""
    tokens, pixels = [], []
    for batch in batches:
        with torch.inference_mode():
            layout = build_layout(batch.coords, model.config.encoder_tile, model.config.head_dim)
            tokens.append(model.encoder(batch.feats, layout)[0].float())
        pixels.append(batch.feats[:, :FRAME_FEATURES])
    return torch.cat(tokens).clone(), torch.cat(pixels)


def _copy_other_weights(model: AToken, started: AToken) -> None:
    """All tensors whose shapes do not depend on the latents, without the way into a text tower's space."""
    state = model.state_dict()
    own = {name: tensor for name, tensor in state.items() if name not in ("proj.weight", "decoder.input_layer.weight")}
    started.load_state_dict(own, strict=False)
