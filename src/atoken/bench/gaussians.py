"""What 3D costs: drawing Gaussians, with and without gradients, and turning a mesh into what the encoder reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch

from ..core.machine import seconds_of
from ..gaussians.raster.rasterize import render
from ..gaussians.types import TENSORS, Gaussians
from ..media.mesh import Asset
from ..media.mesh.material import Material
from ..media.views.cameras import turntable
from ..media.views.views import render_views
from ..media.views.voxels import views_to_patches

REPEATS = 5
COUNT, SIZE = 20_000, 256
TRIANGLES = 100_000


def run_bench_3d() -> Iterator[tuple[str, str, float]]:
    """What was done, by what, and the best of several times in seconds; on the CPU."""
    gaussians, camera = ball(COUNT), turntable(1, size=SIZE)
    for backend in ("numba", "torch"):
        if find_spec(backend):
            forward = _best(partial(render, gaussians, camera, backend=backend))
            yield f"{COUNT:,} Gaussians at {SIZE}", backend, forward
            both = _best(partial(_with_gradients, gaussians, backend))
            yield f"{COUNT:,} Gaussians at {SIZE}, with gradients", backend, both
    if find_spec("embreex"):
        mesh = sphere(TRIANGLES)
        yield f"mesh of {len(mesh.faces):,} triangles to voxels", "embreex", _best(lambda: _voxels(mesh))


def ball(count: int) -> Gaussians:
    """Gaussians about the surface of a ball that fills the unit cube, of the sizes that 64^3 voxels give."""
    generator = torch.Generator().manual_seed(0)

    def normal(channels: int) -> torch.Tensor:
        return torch.randn(count, channels, generator=generator)

    means = torch.nn.functional.normalize(normal(3), dim=1) * 0.48
    log_scales = normal(3) * 0.3 + float(np.log(0.008))
    return Gaussians(means, log_scales, normal(4), normal(1)[:, 0] * 1.5, normal(3))


def sphere(triangles: int) -> Asset:
    """A textured sphere of about ``triangles`` triangles."""
    rows = round((triangles / 4) ** 0.5)
    u, v = np.meshgrid(np.linspace(0, 1, 2 * rows + 1), np.linspace(0, 1, rows + 1))
    ring, turn = np.sin(np.pi * v), 2 * np.pi * u
    vertices = np.stack([ring * np.cos(turn), -np.cos(np.pi * v), ring * np.sin(turn)], -1).reshape(-1, 3) / 2
    corner = (np.arange(rows)[:, None] * (2 * rows + 1) + np.arange(2 * rows)).ravel()
    below, right = corner + 2 * rows + 1, corner + 1
    faces = np.concatenate([np.stack([corner, below, right], 1), np.stack([right, below, below + 1], 1)])
    texture = np.random.default_rng(0).integers(0, 256, (512, 512, 4), dtype=np.uint8)
    texture[..., 3] = 255
    return Asset(
        name="sphere",
        vertices=vertices.astype(np.float32),
        faces=faces.astype(np.int32),
        materials=(Material(np.ones(4, np.float32), False, tuple(texture[:: 2**k, :: 2**k] for k in range(10))),),
        face_material=np.zeros(len(faces), np.int32),
        uv=np.stack([u.ravel(), v.ravel()], -1)[faces].astype(np.float32),
        colours=np.full((len(vertices), 4), 255, np.uint8),
        transform=tuple(tuple(row) for row in np.eye(4).tolist()),
    )


def _with_gradients(gaussians: Gaussians, backend: str) -> None:
    leaves = {name: getattr(gaussians, name).clone().requires_grad_() for name in TENSORS}
    render(Gaussians(**leaves), turntable(1, size=SIZE), backend=backend).rgb.sum().backward()


def _voxels(mesh: Asset) -> None:
    views_to_patches(render_views(mesh))


def _best(call: Callable[[], object]) -> float:
    """Seconds of the fastest call, after one that compiles loops."""
    call()
    return min(seconds_of(call, "cpu") for _ in range(REPEATS))
