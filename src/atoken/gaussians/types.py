"""3D Gaussians: what a 3D asset decodes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

SH_C0 = 0.28209479177387814
"""The spherical harmonic of degree 0, 1 / (2 sqrt(pi))."""
LOGIT_EPS = 1e-6
"""Opacities of 0 and 1 count as this far from them, so that their logits are finite."""

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, eq=False)
class Gaussians:
    """K Gaussians with colours that do not depend on the direction, y up, kept as splat files keep them (K >= 1).

    Raises ``ValueError`` where shapes do not fit or where there is none.
    """

    modality: ClassVar[str] = "3d"

    means: Tensor
    """Float [K, 3]; decoded ones lie about the cube [-0.5, 0.5]^3."""
    log_scales: Tensor
    """[K, 3], natural logarithms of the standard deviations along the Gaussian's own axes."""
    rotations: Tensor
    """[K, 4], quaternions (w, x, y, z) of any length but zero."""
    logits: Tensor
    """[K], opacities before the sigmoid."""
    sh: Tensor
    """[K, 3], coefficients of the spherical harmonic of degree 0 for red, green, blue."""
    transform: Matrix | None = None
    """4 x 4 similarity from here to the asset's own frame, which ``save`` writes; None where this is that frame."""

    def __post_init__(self) -> None:
        count = len(self.means)
        wanted = {"means": (count, 3), "log_scales": (count, 3), "rotations": (count, 4), "logits": (count,)}
        for name, shape in {**wanted, "sh": (count, 3)}.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"Gaussians need {name} {list(shape)}, not {list(getattr(self, name).shape)}")
        if count == 0:
            raise ValueError("there are no Gaussians")

    @classmethod
    def of(cls, means: Tensor, scales: Tensor, rotations: Tensor, opacities: Tensor, rgb: Tensor) -> Gaussians:
        """From standard deviations, opacities and colours in [0, 1]: the properties of the same names are inverses."""
        return cls(means, scales.log(), rotations, torch.logit(opacities, LOGIT_EPS), (rgb - 0.5) / SH_C0)

    @property
    def scales(self) -> Tensor:
        """Standard deviations [K, 3]."""
        return self.log_scales.exp()

    @property
    def opacities(self) -> Tensor:
        """Opacities [K] in (0, 1)."""
        return self.logits.sigmoid()

    @property
    def rgb(self) -> Tensor:
        """Colours [K, 3], sRGB, at least 0 and nominally at most 1."""
        return (0.5 + SH_C0 * self.sh).clamp_min(0)

    def __len__(self) -> int:
        return len(self.means)

    def to(self, device: torch.device | str) -> Gaussians:
        """The same Gaussians on another device."""
        return self._with({name: getattr(self, name).to(device) for name in TENSORS})

    def cpu(self) -> Gaussians:
        """The same Gaussians in fp32 without gradients, on the CPU."""
        return self._with({name: getattr(self, name).detach().float().cpu() for name in TENSORS})

    def split(self, counts: Sequence[int]) -> list[Gaussians]:
        """Consecutive groups of ``counts`` Gaussians."""
        parts = {name: getattr(self, name).split(list(counts)) for name in TENSORS}
        return [self._with({name: parts[name][i] for name in TENSORS}) for i in range(len(counts))]

    def check_finite(self) -> None:
        """Raise ``ValueError`` where a number is NaN or infinite, naming what and how many Gaussians."""
        for name in TENSORS:
            bad = ~torch.isfinite(getattr(self, name)).view(len(self), -1).all(1)
            if bool(bad.any()):
                raise ValueError(f"{int(bad.sum())} of {len(self)} Gaussians have NaN or infinite {name}")

    def transformed(self, matrix: Sequence[Sequence[float]] | Tensor) -> Gaussians:
        """The Gaussians moved by a 4 x 4 similarity: rotation, one scale for all axes, translation.

        Raises ``ValueError`` for any other matrix, mirrors included. The field ``transform`` is dropped.
        """
        m = torch.as_tensor(matrix, dtype=torch.float64).cpu()
        if m.shape != (4, 4):
            raise ValueError(f"a transform is a 4 x 4 matrix, not {list(m.shape)}")
        linear, factor = m[:3, :3], m[:3, :3].det().clamp_min(0) ** (1 / 3)
        similar = bool(factor > 0) and bool(
            ((linear @ linear.T / factor.square().clamp_min(1e-300) - torch.eye(3).double()).abs() < 1e-4).all()
        )
        if not similar or not torch.equal(m[3], torch.tensor([0.0, 0, 0, 1]).double()):
            raise ValueError("Gaussians move by a rotation, one scale and a translation, and this matrix is another")
        turn = rotation_to_quaternion(linear / factor)
        move = m.to(self.means)
        return replace(
            self,
            means=self.means @ move[:3, :3].T + move[:3, 3],
            log_scales=self.log_scales + float(factor.log()),
            rotations=multiply_quaternions(turn.to(self.rotations), self.rotations),
            transform=None,
        )

    def in_asset_frame(self) -> Gaussians:
        """The Gaussians in the asset's own frame and units: moved by ``transform`` where there is one."""
        return self if self.transform is None else self.transformed(self.transform)

    def save(self, path: str | Path) -> None:
        """Write a ``.ply``, ``.splat``, ``.spz`` or ``.sog`` in the asset's own frame, atomically: ``render.files``.

        Raises ``ValueError`` for another suffix or numbers that are not finite, ``OSError`` where it cannot be written.
        """
        from .formats.files import write_splats

        write_splats(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Gaussians:
        """Read a splat file, see ``save``. Raises ``ReadError`` for one that is damaged or of another kind."""
        from .formats.files import read_splats

        return read_splats(path)

    def _with(self, tensors: dict[str, Any]) -> Gaussians:
        return replace(self, **tensors)


TENSORS = tuple(field.name for field in fields(Gaussians) if field.name != "transform")
"""Names of the tensors."""


def rotation_matrices(quaternions: Tensor) -> Tensor:
    """Rotation matrices [K, 3, 3] of quaternions [K, 4] = (w, x, y, z) of any length but zero."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def rotation_to_quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternion [4] = (w, x, y, z) of a rotation [3, 3]: after Bar-Itzhack (2000)."""
    (a, b, c), (d, e, f), (g, h, i) = matrix.double().tolist()
    form = [
        [a + e + i, h - f, c - g, d - b],
        [0, a - e - i, d + b, g + c],
        [0, 0, e - a - i, h + f],
        [0, 0, 0, i - a - e],
    ]
    upper = torch.tensor(form, dtype=torch.float64)
    quaternion = torch.linalg.eigh(upper + upper.triu(1).T).eigenvectors[:, -1]
    return quaternion if quaternion[0] >= 0 else -quaternion


def multiply_quaternions(first: Tensor, second: Tensor) -> Tensor:
    """Hamilton product of quaternions [..., 4], broadcast: the rotation ``second`` followed by ``first``."""
    a, b, c, d = first.unbind(-1)
    e, f, g, h = second.unbind(-1)
    return torch.stack(
        [
            a * e - b * f - c * g - d * h,
            a * f + b * e + c * h - d * g,
            a * g - b * h + c * e + d * f,
            a * h + b * g - c * f + d * e,
        ],
        -1,
    )
