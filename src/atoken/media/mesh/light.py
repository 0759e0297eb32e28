"""Soft light on surfaces, for those whose form nothing else shows."""

from __future__ import annotations

import numpy as np

from . import Asset

NONE, HEAD, STUDIO = "none", "head", "studio"
LIGHTS = (NONE, HEAD, STUDIO)
HEAD_AMBIENT = 0.25
"""What a surface gets that the head light grazes; the rest is the cosine's."""
STUDIO_AMBIENT = 0.56
STUDIO_SLOPE = np.array([0.13, 0.30, 0.22])
"""First-order irradiance (Ramamoorthi & Hanrahan 2001): ambient plus slope times normal, 0.17 to 0.95. No two sides of
a box look alike, whichever axis is up."""


def check_light(light: str | None) -> None:
    """Raise ``ValueError`` unless ``light`` is one of ``LIGHTS`` or None."""
    if light is not None and light not in LIGHTS:
        raise ValueError(f"light cannot be {light!r}: give one of {', '.join(LIGHTS)}")


def light_of(asset: Asset, light: str | None) -> str:
    """``light``, or what suits the asset where it is None. Points have no normals: ``ValueError`` for light on them."""
    check_light(light)
    if asset.is_cloud:
        if light not in (None, NONE):
            raise ValueError(f"{asset.name}: points have no surface to light: leave light at {NONE!r}")
        return NONE
    if light is not None:
        return light
    return NONE if _has_colours(asset) else STUDIO


def normals_of(asset: Asset) -> np.ndarray:
    """Unit normals of the faces, float32 [F, 3]; zero where a face has no area."""
    corners = asset.vertices[asset.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(normals / np.maximum(length, 1e-30), np.float32)


def shade(light: str, normals: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """How bright surfaces with ``normals`` [n, 3] are, seen along ``directions`` [n, 3]: float [n] in 0 ... 1.

    Both sides of a face are lit: the normal is taken on the side that is seen.
    """
    cosine = (normals * directions).sum(1) / np.linalg.norm(directions, axis=1)
    if light == HEAD:
        return np.asarray(HEAD_AMBIENT + (1 - HEAD_AMBIENT) * np.abs(cosine))
    seen = normals * -np.sign(cosine)[:, None]
    return np.asarray(STUDIO_AMBIENT + seen @ STUDIO_SLOPE)


def _has_colours(asset: Asset) -> bool:
    """Whether anything of the asset is textured or other than white."""
    used = [asset.materials[index] for index in np.unique(asset.face_material)]
    plain = all(not material.mips and bool((material.factor[:3] == 1).all()) for material in used)
    return not plain or not bool((asset.colours[:, :3] == np.iinfo(asset.colours.dtype).max).all())
