"""Base colours of a surface: texture, factor and vertex colours, sampled where a ray hits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

ALPHA_CUTOFF = 0.5
"""Where a material is see-through without saying how much: alpha below this is a hole."""


@dataclass(frozen=True)
class Material:
    """What a surface's own colour is, without light."""

    factor: np.ndarray
    """float32 [4], RGB and alpha that multiply the texture."""
    linear: bool
    """Whether the factor is linear light (glTF) rather than sRGB (the older formats)."""
    mips: tuple[np.ndarray, ...] = ()
    """The texture at full and at each halved size, uint8 [h, w, 4]; none where there is no texture."""
    cutoff: float | None = None
    """Alpha below this is a hole; None where the surface is opaque."""

    def sample(self, uv: np.ndarray, texels: np.ndarray, tint: np.ndarray) -> np.ndarray:
        """Colour float32 [n, 4] in 0 ... 1 (sRGB, alpha) at ``uv`` [n, 2], where a pixel covers ``texels`` [n] texels
        of the full texture, under the vertex colours ``tint`` [n, 4] in 0 ... 1."""
        colour = np.ones((len(uv), 4), np.float32)
        if self.mips:
            level = np.clip(np.round(np.log2(np.maximum(texels, 1))), 0, len(self.mips) - 1).astype(int)
            for index in np.unique(level):
                at = level == index
                colour[at] = _bilinear(self.mips[index], uv[at])
        factor = self.factor * tint  # glTF means vertex colours as linear light too
        if not self.linear:
            return colour * factor
        colour[:, :3] = to_srgb(to_linear(colour[:, :3]) * factor[:, :3])
        colour[:, 3] *= factor[:, 3]
        return colour


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB 0 ... 1 to linear light (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light 0 ... 1 to sRGB (IEC 61966-2-1)."""
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055)


def materials_of(geometry: Any, *, linear: bool) -> tuple[Material, np.ndarray | None, np.ndarray | None]:
    """Material, texture coordinates float32 [V, 2] and vertex colours uint8 [V, 4] of a trimesh geometry.

    ``linear`` says whether vertex colours are linear light, as glTF has them.
    """
    visual: Any = getattr(geometry, "visual", None)
    kind = getattr(visual, "kind", None)
    plain = Material(np.ones(4, np.float32), linear)
    if kind == "texture":
        material = _material(visual.material)
        uv = visual.uv
        attributes = getattr(visual, "vertex_attributes", None) or {}
        colours = attributes.get("color", getattr(geometry, "vertex_attributes", {}).get("color"))
        uv = None if uv is None or len(uv) != len(geometry.vertices) else np.asarray(uv, np.float32)[:, :2]
        if uv is None and material.mips:
            material = Material(material.factor, material.linear, (), material.cutoff)
        return material, uv, _rgba(colours, len(geometry.vertices))
    if kind in ("vertex", "face"):
        return plain, None, _rgba(visual.vertex_colors, len(geometry.vertices))
    colours = getattr(geometry, "colors", None)  # a point cloud's
    return plain, None, _rgba(colours, len(geometry.vertices))


def _rgba(colours: Any, count: int) -> np.ndarray | None:
    """Colours as uint8 [count, 4], or None where there are none."""
    if colours is None or len(colours) != count or count == 0:
        return None
    array = np.asarray(colours)
    if array.dtype.kind == "f":
        array = np.clip(array * 255, 0, 255).round()
    elif array.dtype == np.uint16:
        array = array >> 8
    array = array.astype(np.uint8)
    return array if array.shape[1] == 4 else np.concatenate([array, np.full((count, 1), 255, np.uint8)], 1)


def _material(material: Any) -> Material:
    pbr = hasattr(material, "baseColorFactor")
    image = material.baseColorTexture if pbr else getattr(material, "image", None)
    colour = material.baseColorFactor if pbr else getattr(material, "diffuse", None)
    factor = np.ones(4, np.float32)
    if colour is not None:
        values = np.asarray(colour).ravel()[:4]
        factor[: len(values)] = values / 255 if values.dtype == np.uint8 else values
    if image is not None and not pbr and factor[:3].max() < 0.05:
        factor[:3] = 1  # exporters of textured OBJ often leave Kd black, and readers ignore it then
    mode = (getattr(material, "alphaMode", None) or "OPAQUE").upper() if pbr else "MASK"
    cutoff = getattr(material, "alphaCutoff", None) if mode == "MASK" and pbr else None
    if mode == "OPAQUE":
        return Material(factor, pbr, _mips(image))
    return Material(factor, pbr, _mips(image), ALPHA_CUTOFF if cutoff is None else float(cutoff))


def _mips(image: Any) -> tuple[np.ndarray, ...]:
    if image is None or min(image.size) < 1:
        return ()
    image = image.convert("RGBA")
    levels = [np.asarray(image)]
    while max(levels[-1].shape[:2]) > 1:
        width, height = max(1, image.width // 2), max(1, image.height // 2)
        image = image.resize((width, height), Image.Resampling.BOX)
        levels.append(np.asarray(image))
    return tuple(levels)


def _bilinear(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Texture uint8 [h, w, 4] at uv [n, 2], repeated beyond 0 ... 1, v up: float32 [n, 4] in 0 ... 1."""
    height, width = texture.shape[:2]
    x = uv[:, 0] % 1 * width - 0.5
    y = (1 - uv[:, 1] % 1) * height - 0.5
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - left).astype(np.float32)[:, None], (y - top).astype(np.float32)[:, None]
    x0, x1, y0, y1 = left % width, (left + 1) % width, top % height, (top + 1) % height
    upper = texture[y0, x0] * (1 - fx) + texture[y0, x1] * fx
    lower = texture[y1, x0] * (1 - fx) + texture[y1, x1] * fx
    return ((upper * (1 - fy) + lower * fy) / 255).astype(np.float32)
