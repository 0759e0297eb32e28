"""Base colours of a surface: texture, factor and vertex colours, sampled where a ray hits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

ALPHA_CUTOFF = 0.5
"""Where a material is see-through without saying how much: alpha below this is a hole."""
FAINT = 1e-3
"""Weight of a texel's colour where its alpha is 0, so that a region without any alpha keeps its mean colour."""
BAND = 256
"""Rows of a halved texture that are computed at once, so that floats of the whole are never held."""


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB 0 ... 1 to linear light (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light 0 ... 1 to sRGB (IEC 61966-2-1)."""
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055)


LINEAR = to_linear(np.arange(256) / 255).astype(np.float32)
"""Linear light of each sRGB byte."""


@dataclass(frozen=True)
class Wrap:
    """What lies beyond a texture's borders along u and v, and how it is magnified: a glTF sampler."""

    u: str = "repeat"
    """ "repeat", "mirror" or "clamp"."""
    v: str = "repeat"
    nearest: bool = False
    """Whether a texel larger than a pixel is a square of one colour."""


@dataclass(frozen=True)
class Material:
    """What a surface's own colour is, without light."""

    factor: np.ndarray
    """float32 [4], RGB and alpha that multiply the texture."""
    linear: bool
    """Whether the factor and the vertex colours are linear light (glTF) rather than sRGB (the older formats)."""
    mips: tuple[np.ndarray, ...] = ()
    """The texture at full and at each halved size, uint8 [h, w, 4], sRGB; none where there is no texture."""
    cutoff: float | None = None
    """Alpha below this is a hole; None where the surface is opaque."""
    wrap: Wrap = Wrap()

    def sample(self, uv: np.ndarray, texels: np.ndarray, tint: np.ndarray) -> np.ndarray:
        """Colour float32 [n, 4] in 0 ... 1 (sRGB, alpha) at ``uv`` [n, 2], v up, where a pixel covers ``texels`` [n]
        texels of the full texture, under the vertex colours ``tint`` [n, 4] in 0 ... 1."""
        factor = self.factor * tint  # glTF means vertex colours as linear light too
        if not self.mips:
            return np.concatenate([to_srgb(factor[:, :3]), factor[:, 3:]], 1) if self.linear else factor
        colour = np.empty((len(uv), 4), np.float32)
        level = np.clip(np.round(np.log2(np.maximum(texels, 1))), 0, len(self.mips) - 1).astype(int)
        for index in np.unique(level):
            at = level == index
            colour[at] = self._filtered(index, uv[at], texels[at])
        if self.linear:
            colour[:, :3] = to_srgb(colour[:, :3] * factor[:, :3])
        else:
            colour[:, :3] = to_srgb(colour[:, :3]) * factor[:, :3]
        colour[:, 3] *= factor[:, 3]
        return colour

    def _filtered(self, index: int, uv: np.ndarray, texels: np.ndarray) -> np.ndarray:
        """Level ``index`` at ``uv`` [n, 2], bilinear in linear light: float32 [n, 4], linear RGB and alpha."""
        texture = self.mips[index]
        height, width = texture.shape[:2]
        x, x0, x1 = _neighbours(uv[:, 0], width, self.wrap.u)
        y, y0, y1 = _neighbours(1 - uv[:, 1], height, self.wrap.v)
        if self.wrap.nearest and index == 0:
            x, y = (np.where(texels <= 1, np.round(part), part) for part in (x, y))
        colour, alpha, total = np.zeros((len(uv), 3), np.float32), np.zeros(len(uv)), np.zeros(len(uv))
        for row, down in ((y0, 1 - y), (y1, y)):
            for column, across in ((x0, 1 - x), (x1, x)):
                texel = texture[row, column]
                share = down * across * (1 if self.cutoff is None else texel[:, 3] / 255 + FAINT)
                colour += LINEAR[texel[:, :3]] * share[:, None].astype(np.float32)
                alpha += down * across * texel[:, 3]
                total += share
        return np.concatenate([colour / total[:, None], alpha[:, None] / 255], 1).astype(np.float32)


def _neighbours(position: np.ndarray, size: int, wrap: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How far between its two texels each of ``position`` (in textures) lies, and those texels' numbers."""
    period = 2 if wrap == "mirror" else 1
    position = np.clip(position, 0, 1) if wrap == "clamp" else position % period
    place = position.astype(np.float64) * size - 0.5
    first = np.floor(place).astype(int)
    texels = np.stack([first, first + 1])
    if wrap == "clamp":
        texels = np.clip(texels, 0, size - 1)
    else:
        texels %= period * size
        texels = np.where(texels < size, texels, 2 * size - 1 - texels)
    return place - first, texels[0], texels[1]


def mips_of(rgb: np.ndarray, alpha: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """A texture, uint8 [h, w, 3] in sRGB, and all its halved sizes, uint8 [h, w, 4].

    They are means in linear light, weighted by ``alpha``, uint8 [h, w]; None where it says nothing.
    """
    texture = np.full((*rgb.shape[:2], 4), 255, np.uint8)
    texture[..., :3] = rgb
    if alpha is not None:
        texture[..., 3] = alpha
    levels = [texture]
    while max(levels[-1].shape[:2]) > 1:
        levels.append(_halved(levels[-1]))
    return tuple(levels)


def _halved(texture: np.ndarray) -> np.ndarray:
    height, width = texture.shape[:2]
    rows, columns = max(1, height // 2), max(1, width // 2)
    half = np.empty((rows, columns, 4), np.uint8)
    for start in range(0, rows, BAND):
        end = min(start + BAND, rows)
        top, bottom = start * height / rows, end * height / rows
        first = math.floor(top)
        part = texture[first : math.ceil(bottom)]
        mean = _mean((columns, end - start), (0, top - first, width, bottom - first))
        alpha = part[..., 3].astype(np.float32)
        weight = alpha / 255 + np.float32(FAINT)
        total = mean(weight)
        for channel in range(3):
            light = mean(LINEAR[part[..., channel]] * weight) / total
            half[start:end, :, channel] = np.clip(to_srgb(light) * 255, 0, 255).round()
        half[start:end, :, 3] = np.clip(mean(alpha), 0, 255).round()
    return half


def _mean(size: tuple[int, int], box: tuple[float, float, float, float]) -> Callable[[np.ndarray], np.ndarray]:
    """What brings one channel, float32 [h, w], to ``size`` = (columns, rows) by the means inside ``box``."""
    return lambda channel: np.asarray(Image.fromarray(channel).resize(size, Image.Resampling.BOX, box=box))
