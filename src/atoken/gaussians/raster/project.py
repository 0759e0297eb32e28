"""Gaussians in space to Gaussians in a picture: EWA splatting (Zwicker et al. 2001), mip filter (Yu et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..types import Gaussians, rotation_matrices

ALPHA_MIN = 1 / 255
"""What covers a pixel by less than this is left out."""
MARGIN = 0.3
"""Share of the half picture by which a centre may lie outside before its perspective is taken at the border."""
TINY = 1e-12


@dataclass(frozen=True)
class Splats:
    """The K visible Gaussians of one picture, nearest first."""

    means: Tensor
    """[K, 2], column and row in pixels; the centre of the top left pixel is (0.5, 0.5)."""
    conics: Tensor
    """[K, 3], entries (xx, xy, yy) of the inverse covariances."""
    opacities: Tensor
    """[K], at the centre, at least ``ALPHA_MIN``."""
    colours: Tensor
    """[K, C]."""
    extents: Tensor
    """[K, 2], pixels to both sides of the centre outside which opacity is below ``ALPHA_MIN``; no gradients."""


def project(
    gaussians: Gaussians,
    w2c: Tensor,
    intrinsics: Tensor,
    size: tuple[int, int],
    mip: float,
    near: float,
) -> Splats:
    """The Gaussians that a camera sees, with red, green, blue, depth and 1 for colours.

    w2c [4, 4] and intrinsics [3, 3] as in ``Cameras``; size is height, width. ``mip`` is the variance in square pixels
    that is added to every Gaussian, whose opacity falls so that its sum stays. Differentiable in the Gaussians.
    """
    height, width = size
    w2c, intrinsics = w2c.to(gaussians.means), intrinsics.to(gaussians.means)
    local = gaussians.means @ w2c[:3, :3].T + w2c[:3, 3]
    index = torch.nonzero(local[:, 2].detach() > near)[:, 0]
    index = index[local[index, 2].detach().argsort(stable=True)]
    x, y, z = local[index].unbind(-1)
    fx, fy, cx, cy = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]
    means = torch.stack([fx * x / z + cx, fy * y / z + cy], -1)

    at_x = (x / z).clamp(-cx / fx - MARGIN * width / 2 / fx, (width - cx) / fx + MARGIN * width / 2 / fx)
    at_y = (y / z).clamp(-cy / fy - MARGIN * height / 2 / fy, (height - cy) / fy + MARGIN * height / 2 / fy)
    zero = torch.zeros_like(z)
    rows = [torch.stack([fx / z, zero, -fx * at_x / z], -1), torch.stack([zero, fy / z, -fy * at_y / z], -1)]
    jacobian = torch.stack(rows, 1) @ w2c[:3, :3]  # [K, 2, 3]
    axes = jacobian @ (rotation_matrices(gaussians.rotations[index]) * gaussians.scales[index, None])  # [K, 2, 3]
    xx, xy, yy = axes[:, 0].square().sum(-1), (axes[:, 0] * axes[:, 1]).sum(-1), axes[:, 1].square().sum(-1)

    sharp = torch.linalg.cross(axes[:, 0], axes[:, 1]).square().sum(-1)  # determinant, without cancellation (Lagrange)
    xx, yy = xx + mip, yy + mip
    determinant = sharp + mip * (xx + yy - mip)  # (xx yy - xy xy) of the widened covariance
    opacities = gaussians.opacities[index] * (sharp / determinant.clamp_min(TINY)).clamp_min(TINY).sqrt()

    with torch.no_grad():
        spread = 2 * (opacities / ALPHA_MIN).clamp_min(1).log()
        extents = (spread[:, None] * torch.stack([xx, yy], -1)).sqrt()
        far = torch.tensor([width, height], device=means.device)
        inside = ((means + extents > 0) & (means - extents < far)).all(-1)
        kept = torch.nonzero(inside & (opacities >= ALPHA_MIN) & (determinant > TINY))[:, 0]
    conics = torch.stack([yy, -xy, xx], -1) / determinant.clamp_min(TINY)[:, None]
    colours = torch.cat([gaussians.rgb[index], z[:, None], torch.ones_like(z)[:, None]], 1)
    return Splats(means[kept], conics[kept], opacities[kept], colours[kept], extents[kept])
