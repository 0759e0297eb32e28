"""Depth maps beside posed pictures: 16-bit pictures with a unit, or float arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import ReadError, reading
from ..arrays import read_npy
from ..image.opener import open_picture

UNITS = ("depth_unit_scale_factor", "integer_depth_scale")
"""World units of one step of an integer depth, as nerfstudio and as instant-ngp call it."""
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
NEED = "a depth needs one channel of 16 bits, or a float .npy in world units"


def read_depth(file: Path, frame: Mapping[str, Any], table: Path, max_pixels: int) -> np.ndarray:
    """Depth float32 [H, W] along the camera's z in world units, infinity where there is nothing.

    A PNG or TIFF of one channel of 16 bits spans the frame's ``depth``: {"min", "max"}, where 0 and 65535 are nothing;
    or each step is ``depth_unit_scale_factor`` (or ``integer_depth_scale``) units, 0 being nothing. An ``.npy`` holds
    floats in world units, or integers in such steps. Raises ``ReadError`` that names the file.
    """
    raw = read_npy(file, max_pixels) if file.suffix.lower() == ".npy" else _read_picture(file, max_pixels)
    raw = raw[..., 0] if raw.ndim == 3 and raw.shape[2] == 1 else raw
    if raw.ndim != 2 or not raw.size or raw.dtype.kind not in "fiu":
        raise ReadError(f"{file} is {raw.dtype} of shape {list(raw.shape)}: {NEED}")
    depth = raw.astype(np.float32) if raw.dtype.kind == "f" else _in_units(raw, frame, file, table)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(np.inf))


def _read_picture(file: Path, max_pixels: int) -> np.ndarray:
    with open_picture(file, max_pixels=max_pixels, formats=("PNG", "TIFF")) as image:
        if image.mode not in SIXTEEN_BITS and not (image.mode == "I" and image.format == "PNG"):
            raise ReadError(f"{file} is a picture of mode {image.mode}: {NEED}")
        return np.asarray(image).astype(np.uint16)


def _in_units(raw: np.ndarray, frame: Mapping[str, Any], file: Path, table: Path) -> np.ndarray:
    span = frame.get("depth")
    if span is not None:
        with reading(f"{table}: depth of a frame", 'give {"min": number, "max": number}'):
            low, high = float(span["min"]), float(span["max"])
        if not (np.isfinite([low, high]).all() and low < high and file.suffix.lower() != ".npy"):
            raise ReadError(f"{table}: the depth of a frame is {low:g} to {high:g} for {file.name}: give min < max")
        depth = low + raw / 65535 * (high - low)
        return np.where((raw > 0) & (raw < 65535), depth, np.inf).astype(np.float32)
    unit = next((frame[key] for key in UNITS if frame.get(key) is not None), None)
    if unit is None:
        raise ReadError(f"{table}: {file.name} has no unit: give {UNITS[0]}, or depth with min and max")
    with reading(f"{table}: {UNITS[0]}", "give a positive number"):
        factor = float(unit)
    if not 0 < factor < np.inf:
        raise ReadError(f"{table}: {' or '.join(UNITS)} is {factor:g}: give a positive number")
    return np.where(raw > 0, raw * factor, np.inf).astype(np.float32)
