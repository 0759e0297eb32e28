"""What all splat files hold, whatever their layout: columns under the names and in the frame of 3DGS' ``.ply``.

The names and conventions are those of 3D Gaussian Splatting (Kerbl et al. 2023): ``x, y, z``, ``f_dc_*`` (spherical
harmonic of degree 0), ``opacity`` (before the sigmoid), ``scale_*`` (natural logarithms), ``rot_*`` (quaternion
w, x, y, z). Its viewers take y to point down, as in photogrammetry; here, as in glTF, it points up. So reading and
writing turn by half a turn about z, as SuperSplat does when it opens a file; that is exact in floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...core.errors import ReadError
from ..types import LOGIT_EPS, Gaussians

PLACE, COLOUR, OPACITY = ("x", "y", "z"), ("f_dc_0", "f_dc_1", "f_dc_2"), ("opacity",)
SCALE, ROTATION = ("scale_0", "scale_1", "scale_2"), ("rot_0", "rot_1", "rot_2", "rot_3")
NEEDED = (*PLACE, *COLOUR, *OPACITY, *SCALE, *ROTATION)

OPAQUE_LOGIT = float(np.log((1 - LOGIT_EPS) / LOGIT_EPS))
"""An infinite logit, which means wholly opaque (or wholly transparent with a minus), is taken as this."""
FLAT_LOG_SCALE = -30.0
"""A log scale of minus infinity, which means no thickness, is taken as this: 1e-13, whose square is still a float."""
MOST_LOG_SCALE = 40.0
"""Above this the square of a size is no 32-bit float any more."""
MOST_GAUSSIANS = 10_000_000
"""Of a compressed file, whose few bytes may announce any number; the reference reader of SPZ has the same limit."""

Columns = Mapping[str, np.ndarray]


def gaussians_of(columns: Columns, name: object) -> Gaussians:
    """The Gaussians of the columns ``NEEDED``, float [K] each, of the file ``name``.

    Infinite opacities are opaque or invisible, and a scale of minus infinity is flat. Raises ``ReadError`` that names
    the property for NaN and for any other infinity, and where there is no Gaussian.
    """
    values = {key: np.asarray(columns[key], np.float32) for key in NEEDED}
    if not len(values["x"]):
        raise ReadError(f"{name} holds no Gaussians: save or download it again")
    for key, column in values.items():
        _refuse(np.isnan(column), f"{name}: {key} is NaN", "train or save it again")
        if key in OPACITY:
            values[key] = np.where(np.isinf(column), np.copysign(np.float32(OPAQUE_LOGIT), column), column)
        elif key in SCALE:
            _refuse(
                column > MOST_LOG_SCALE, f"{name}: {key}, a logarithm, is above {MOST_LOG_SCALE:g}", "save it again"
            )
            values[key] = np.maximum(column, FLAT_LOG_SCALE)
        else:
            _refuse(np.isinf(column), f"{name}: {key} is infinite", "train or save it again")

    def tensor(names: tuple[str, ...]) -> Tensor:
        return torch.from_numpy(np.stack([values[key] for key in names], 1))

    return Gaussians(
        means=_turned(tensor(PLACE)),
        log_scales=tensor(SCALE),
        rotations=_turn_from_file(tensor(ROTATION)),
        logits=tensor(OPACITY)[:, 0],
        sh=tensor(COLOUR),
    )


def columns_of(gaussians: Gaussians) -> dict[str, np.ndarray]:
    """The inverse: columns ``NEEDED``, float32 [K] each, of Gaussians in their asset's own frame.

    Raises ``ValueError`` for numbers that are not finite.
    """
    gaussians = gaussians.in_asset_frame().cpu()
    gaussians.check_finite()
    parts = [_turned(gaussians.means), gaussians.sh, gaussians.logits[:, None], gaussians.log_scales]
    joined = torch.cat([*parts, _turn_to_file(gaussians.rotations)], 1).numpy()
    return {key: joined[:, index] for index, key in enumerate(NEEDED)}


class Parts(NamedTuple):
    """The properties of K Gaussians as compressed formats store them, in the frame of the columns."""

    place: np.ndarray
    """[K, 3]."""
    scale: np.ndarray
    """Natural logarithms, [K, 3]."""
    colour: np.ndarray
    """Harmonics of degree 0, [K, 3]."""
    opacity: np.ndarray
    """In 0 ... 1, [K]."""
    rotation: np.ndarray
    """Quaternions (w, x, y, z), [K, 4]."""

    @classmethod
    def of(cls, gaussians: Gaussians) -> Parts:
        """Those of Gaussians in their asset's own frame, float32; quaternions have length 1, float64.

        Raises ``ValueError`` for numbers that are not finite.
        """
        columns = columns_of(gaussians)
        place, scale, colour, rotation = (_stacked(columns, keys) for keys in (PLACE, SCALE, COLOUR, ROTATION))
        return cls(place, scale, colour, sigmoid(columns[OPACITY[0]]), _unit(rotation.astype(np.float64)))

    def columns(self) -> dict[str, np.ndarray]:
        """The columns ``NEEDED``; opacities of 0 and 1 are ``LOGIT_EPS`` from them."""
        named = ((PLACE, self.place), (SCALE, self.scale), (COLOUR, self.colour), (ROTATION, self.rotation))
        found = {key: column for keys, part in named for key, column in zip(keys, part.T, strict=True)}
        return {**found, OPACITY[0]: logit(self.opacity)}


def _stacked(columns: Columns, names: tuple[str, ...]) -> np.ndarray:
    """Some of the columns side by side, float32 [K, len(names)]."""
    return np.stack([columns[key] for key in names], 1)


def _unit(rotations: np.ndarray) -> np.ndarray:
    """Rotations [K, 4] of length 1; all zeros stand for no rotation, as in ``render``."""
    length = np.linalg.norm(rotations, axis=1, keepdims=True)
    return np.where(length > 0, rotations / np.maximum(length, 1e-30), [1.0, 0, 0, 0])


def smallest_three(quaternions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which component of unit quaternions [K, 4] is the largest, [K], and the others [K, 3] where it is positive."""
    largest = np.abs(quaternions).argmax(1)
    sign = np.where(np.take_along_axis(quaternions, largest[:, None], 1) < 0, -1.0, 1.0)
    others = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])[largest]
    return largest, np.take_along_axis(quaternions * sign, others, 1)


def from_smallest_three(largest: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """The inverse of ``smallest_three``, [K, 4]."""
    others = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])[largest]
    quaternions = np.zeros((len(rest), 4))
    np.put_along_axis(quaternions, others, rest, 1)
    missing = np.sqrt(np.maximum(0, 1 - (rest**2).sum(1, keepdims=True)))
    np.put_along_axis(quaternions, largest[:, None], missing, 1)
    return quaternions


def logit(opacity: np.ndarray) -> np.ndarray:
    """Opacities before the sigmoid; 0 and 1 are ``LOGIT_EPS`` from them."""
    inside = np.clip(opacity, LOGIT_EPS, 1 - LOGIT_EPS)
    return np.log(inside / (1 - inside))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Opacities in 0 ... 1."""
    return 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -80, 80)))


def _refuse(bad: np.ndarray, what: str, remedy: str) -> None:
    if bad.any():
        raise ReadError(f"{what} in {int(bad.sum())} of {len(bad)} Gaussians: {remedy}")


def _turned(vectors: Tensor) -> Tensor:
    return vectors * vectors.new_tensor([-1.0, -1.0, 1.0])


def _turn_to_file(rotations: Tensor) -> Tensor:
    w, x, y, z = rotations.unbind(-1)
    return torch.stack([-z, -y, x, w], -1)  # (0, 0, 0, 1) times the quaternion


def _turn_from_file(rotations: Tensor) -> Tensor:
    w, x, y, z = rotations.unbind(-1)
    return torch.stack([z, y, -x, -w], -1)  # (0, 0, 0, -1) times the quaternion
