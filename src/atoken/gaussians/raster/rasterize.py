"""Pictures of Gaussians: the one function that chooses how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from ...core.forks import keep_children_working
from ...media.views.cameras import Cameras
from ..types import Gaussians
from . import torch_blend as blend
from .project import project

BACKENDS = ("torch", "numba", "gsplat")
MIP = 0.1
"""Variance in square pixels that the released renderer adds to every Gaussian."""
NEAR = 0.01
BLACK = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Renders:
    """Pictures of V cameras; differentiable where the Gaussians were."""

    rgb: Tensor
    """[V, 3, H, W], sRGB in [0, 1] (colours above 1 are not cut)."""
    alpha: Tensor
    """[V, 1, H, W], how much of each pixel is covered, in [0, 1]."""
    depth: Tensor
    """[V, 1, H, W], mean distance along the viewing axis of what covers the pixel; 0 where nothing does."""

    def over(self, background: Sequence[float]) -> Renders:
        """The same pictures, rendered over black, over another colour in [0, 1]."""
        behind = self.rgb.new_tensor(background).view(1, 3, 1, 1)
        return replace(self, rgb=self.rgb + (1 - self.alpha) * behind)

    def to_uint8(self) -> np.ndarray:
        """The pictures as uint8 [V, H, W, 3]."""
        pixels = (self.rgb.detach().clamp(0, 1) * 255).round().to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).cpu().contiguous().numpy()


def render(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    background: Sequence[float] | Tensor = BLACK,
    mip: float = MIP,
    near: float = NEAR,
    backend: str | None = None,
) -> Renders:
    """Pictures of Gaussians by perspective, 2D covariances, depth order and alpha compositing (Kerbl et al. 2023).

    background: colour in [0, 1], or a tensor that broadcasts to [V, 3, H, W]. mip: variance in square pixels added to
    each Gaussian. near: what lies closer to the camera is left out. backend: "torch" on the device itself; "numba" many
    times faster, on the CPU, to which it takes the Gaussians of any device; "gsplat" on CUDA; by default the fastest
    that is installed.
    Raises ``ValueError`` for numbers that are not finite and for a backend that cannot be had.
    """
    keep_children_working()
    backend = _choose(backend, gaussians.means.device)
    gaussians.check_finite()
    if backend == "gsplat":
        covered, alpha = _by_gsplat(gaussians, cameras, mip, near)  # [V, H, W, 4], [V, H, W, 1]
    else:
        there = gaussians.means.device
        placed = gaussians.to("cpu") if backend == "numba" else gaussians
        covered, alpha = (part.to(there) for part in _by_blending(placed, cameras, mip, near, backend))
    covered, alpha = covered.permute(0, 3, 1, 2), alpha.permute(0, 3, 1, 2)
    behind = torch.as_tensor(background).to(covered)
    behind = behind.view(1, 3, 1, 1) if behind.ndim == 1 else behind
    depth = torch.where(alpha > 0, covered[:, 3:] / alpha.clamp_min(1e-6), 0)
    return Renders(covered[:, :3] + (1 - alpha) * behind, alpha, depth)


def _choose(backend: str | None, device: torch.device) -> str:
    if backend is None:
        fast = ("gsplat", "numba") if device.type == "cuda" else ("numba",)
        return next((name for name in fast if find_spec(name)), "torch")
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}: give one of {', '.join(BACKENDS)}")
    if backend == "gsplat" and device.type != "cuda":
        raise ValueError(f"backend {backend!r} does not render on {device.type}")
    if not find_spec(backend):
        remedy = "pip install 'atoken[mesh]'" if backend == "numba" else "pip install gsplat"
        raise ValueError(f"backend {backend!r} is not installed: {remedy}")
    return backend


def _by_blending(
    gaussians: Gaussians, cameras: Cameras, mip: float, near: float, backend: str
) -> tuple[Tensor, Tensor]:
    """Colours and depth times coverage [V, H, W, 4], and coverage [V, H, W, 1]."""
    run = blend.blend
    if backend == "numba":
        from .numba_blend import blend as run
    views = []
    for w2c, intrinsics in zip(cameras.w2c, cameras.intrinsics, strict=True):
        splats = project(gaussians, w2c, intrinsics, cameras.size, mip, near)
        views.append(run(splats, *cameras.size))
    covered, alpha = torch.stack(views).split([4, 1], -1)
    return covered, alpha


def _by_gsplat(gaussians: Gaussians, cameras: Cameras, mip: float, near: float) -> tuple[Tensor, Tensor]:
    from gsplat import rasterization

    covered, alpha, _ = rasterization(
        gaussians.means,
        torch.nn.functional.normalize(gaussians.rotations, dim=-1),
        gaussians.scales,
        gaussians.opacities,
        gaussians.rgb,
        cameras.w2c.to(gaussians.means),
        cameras.intrinsics.to(gaussians.means),
        cameras.size[1],
        cameras.size[0],
        near_plane=near,
        eps2d=mip,
        rasterize_mode="antialiased",
        render_mode="RGB+D",
        packed=False,
    )
    return covered, alpha
