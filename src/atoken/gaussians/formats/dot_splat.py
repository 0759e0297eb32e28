"""``.splat`` files (antimatter15/splat): 32 bytes for each Gaussian, in the frame of the ``.ply``.

Place and standard deviations are floats, colour and opacity bytes, the quaternion four bytes of 1/128; so writing
loses colours outside of 0 ... 1 and all beyond 8 bits of colour, opacity and rotation.
"""

from __future__ import annotations

import numpy as np

from ...core.errors import ReadError
from ..types import SH_C0, Gaussians
from .table import Parts, gaussians_of

RECORD = np.dtype([("place", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("rotation", "u1", 4)])


def read(data: bytes, name: object) -> Gaussians:
    """The Gaussians of a file. Raises ``ReadError`` where it is no whole number of records or holds NaN."""
    if not data or len(data) % RECORD.itemsize:
        what = "is empty (0 bytes)" if not data else f"is no .splat: {len(data)} bytes are no multiple of 32"
        raise ReadError(f"{name} {what}; download it again")
    table = np.frombuffer(data, RECORD)
    if (table["scale"] < 0).any():
        raise ReadError(f"{name} is no .splat: a Gaussian has a negative size; download it again")
    with np.errstate(divide="ignore"):
        scales = np.log(table["scale"])
    rgba = table["rgba"] / 255
    rotations = (table["rotation"].astype(np.float32) - 128) / 128
    parts = Parts(table["place"], scales, (rgba[:, :3] - 0.5) / SH_C0, rgba[:, 3], rotations)
    return gaussians_of(parts.columns(), name)


def to_bytes(gaussians: Gaussians) -> bytes:
    """A file in the asset's own frame. Raises ``ValueError`` for numbers that are not finite."""
    parts = Parts.of(gaussians)
    table = np.zeros(len(gaussians), RECORD)
    table["place"] = parts.place
    table["scale"] = np.exp(parts.scale)
    rgba = np.concatenate([parts.colour * SH_C0 + 0.5, parts.opacity[:, None]], 1)
    table["rgba"] = np.clip(np.round(rgba * 255), 0, 255)
    table["rotation"] = np.clip(np.round(parts.rotation * 128 + 128), 0, 255)
    return table.tobytes()
