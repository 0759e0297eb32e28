"""The rasterizer: values and gradients against a plain dense float64 formula, and what a camera should see."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from atoken import Gaussians
from atoken.gaussians.raster.rasterize import render
from atoken.gaussians.types import TENSORS
from atoken.media.views.cameras import Cameras, turntable
from refusals import refused

BACKENDS = ["torch", "numba"]


def cameras(height: int = 21, width: int = 37) -> Cameras:
    """Two cameras that see the cloud from aside, not square, the principal point off the centre."""
    views = turntable(3, size=32)[1:]
    intrinsics = torch.tensor([[40.0, 0, 17], [0, 36, 11.5], [0, 0, 1]]).repeat(2, 1, 1)
    return Cameras(views.w2c, intrinsics, (height, width))


def dense(gaussians: Gaussians, views: Cameras, mip: float) -> Tensor:
    """[V, 5, H, W]: colours, depth and coverage of every Gaussian at every pixel, one after the other, float64."""
    height, width = views.size
    pictures = []
    for w2c, k in zip(views.w2c.double(), views.intrinsics.double(), strict=True):
        w, x, y, z = (gaussians.rotations / gaussians.rotations.norm(dim=1, keepdim=True)).T
        turn = torch.stack(
            [
                torch.stack([w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
                torch.stack([2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)], -1),
                torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z], -1),
            ],
            1,
        )
        world = turn @ torch.diag_embed(torch.exp(2 * gaussians.log_scales)) @ turn.mT
        px, py, pz = (gaussians.means @ w2c[:3, :3].T + w2c[:3, 3]).T
        limits = [
            (-k[i, 2] / k[i, i], (s - k[i, 2]) / k[i, i], 0.15 * s / k[i, i]) for i, s in ((0, width), (1, height))
        ]
        tx, ty = ((p / pz).clamp(low - m, high + m) for p, (low, high, m) in zip((px, py), limits, strict=True))
        nil = torch.zeros_like(pz)
        jacobian = torch.stack(
            [
                torch.stack([k[0, 0] / pz, nil, -k[0, 0] * tx / pz], -1),
                torch.stack([nil, k[1, 1] / pz, -k[1, 1] * ty / pz], -1),
            ],
            1,
        )
        sharp = jacobian @ w2c[:3, :3] @ world @ w2c[:3, :3].T @ jacobian.mT
        wide = sharp + mip * torch.eye(2).double()
        opacity = gaussians.logits.sigmoid() * (sharp.det() / wide.det()).sqrt()
        inverse = wide.inverse()
        column, row = torch.meshgrid(torch.arange(width).double(), torch.arange(height).double(), indexing="xy")
        light = torch.ones(height, width, dtype=torch.float64)
        picture = torch.zeros(5, height, width, dtype=torch.float64)
        for i in pz.argsort().tolist():
            d = torch.stack(
                [column + 0.5 - (k[0, 0] * px[i] / pz[i] + k[0, 2]), row + 0.5 - (k[1, 1] * py[i] / pz[i] + k[1, 2])],
                -1,
            )
            alpha = opacity[i] * torch.exp(-torch.einsum("hwi,ij,hwj->hw", d, inverse[i], d) / 2)
            alpha = torch.where((alpha >= 1 / 255) & (pz[i] > 0.01), alpha.clamp_max(0.999), 0)
            colour = torch.cat([(0.5 + 0.28209479177387814 * gaussians.sh[i]).clamp_min(0), pz[i : i + 1], nil[:1] + 1])
            picture = picture + colour[:, None, None] * (alpha * light)
            light = light * torch.where(light >= 1e-4, 1 - alpha, 0)
        pictures.append(picture)
    return torch.stack(pictures)


def stacked(gaussians: Gaussians, views: Cameras, backend: str, mip: float = 0.1) -> Tensor:
    out = render(gaussians, views, backend=backend, mip=mip)
    return torch.cat([out.rgb, out.depth * out.alpha, out.alpha], 1)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mip", [0.1, 0.3])
def test_values_and_gradients_are_those_of_the_dense_formula(cloud, backend, mip):
    gaussians, views = cloud(60, dtype=torch.float64), cameras()
    weights = torch.randn(2, 5, *views.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    results, gradients = [], []
    for draw in (lambda g: stacked(g, views, backend, mip), lambda g: dense(g, views, mip)):
        leaves = {name: getattr(gaussians, name).clone().requires_grad_() for name in TENSORS}
        results.append(draw(Gaussians(**leaves)))
        (results[-1] * weights).sum().backward()
        gradients.append({name: leaf.grad for name, leaf in leaves.items()})
    assert float(results[1][:, 4].detach().max()) > 0.9, "the scene has opaque pixels"
    torch.testing.assert_close(results[0], results[1], atol=1e-9, rtol=0)
    for name in TENSORS:
        assert float(gradients[1][name].abs().max()) > 1e-3
        torch.testing.assert_close(gradients[0][name], gradients[1][name], atol=1e-7, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_are_finite_differences(cloud, backend):
    gaussians, views = cloud(6, scale=0.1, dtype=torch.float64), cameras(9, 11)[:1]

    def draw(*leaves: Tensor) -> Tensor:
        return stacked(Gaussians(*leaves), views, backend)

    inputs = [getattr(gaussians, name).clone().requires_grad_() for name in TENSORS]
    # The cut at 1/255 is a step, which finite differences must not cross: few random directions, small steps.
    assert torch.autograd.gradcheck(draw, inputs, eps=1e-8, atol=1e-4, rtol=1e-3, fast_mode=True)


def test_single_precision_is_close(cloud):
    gaussians, views = cloud(400), cameras(64, 96)
    exact = stacked(Gaussians(**{name: getattr(gaussians, name).double() for name in TENSORS}), views, "numba")
    for backend in BACKENDS:
        assert float((stacked(gaussians, views, backend) - exact).abs().mean()) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_dense_scenes_end_early_without_a_trace(cloud, backend):
    """What lies behind opaque splats does not show, beyond one part in a thousand."""
    gaussians, views = cloud(400, scale=0.3), cameras(40, 40)[:1]
    gaussians = replace(gaussians, logits=gaussians.logits.abs() + 2)
    full = stacked(gaussians, views, backend)
    depth = gaussians.means @ views.w2c[0, 2, :3]
    front = depth.argsort()[:200]
    half = stacked(Gaussians(**{name: getattr(gaussians, name)[front] for name in TENSORS}), views, backend)
    middle = (slice(None), slice(None), slice(15, 25), slice(15, 25))
    torch.testing.assert_close(full[middle], half[middle], atol=1e-3, rtol=0)


def one(mean=(0.0, 0.0, 0.0), scale=0.05, rgb=(1.0, 0.0, 0.0), opacity=0.99) -> Gaussians:
    return Gaussians.of(
        torch.tensor([mean]), torch.full((1, 3), scale), torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([opacity]),
        torch.tensor([rgb]),
    )  # fmt: skip


def both(*parts: Gaussians) -> Gaussians:
    return Gaussians(**{name: torch.cat([getattr(part, name) for part in parts]) for name in TENSORS})


@pytest.mark.parametrize("backend", BACKENDS)
def test_places_and_sizes_are_those_of_the_camera(backend):
    """Up is up, right is right, depth is the distance, and the width at 60 % is that of a standard deviation."""
    views = turntable(1, elevation=0, size=129, distance=2.0)
    focal = float(views.intrinsics[0, 0, 0])
    out = render(one((0.2, 0.1, 0.3), scale=0.05), views, backend=backend, mip=0.0)
    coverage = out.alpha[0, 0].double()
    total = coverage.sum()
    column = float((coverage.sum(0) * (torch.arange(129) + 0.5)).sum() / total)
    row = float((coverage.sum(1) * (torch.arange(129) + 0.5)).sum() / total)
    assert column == pytest.approx(64.5 + focal * 0.2 / 1.7, abs=0.1)
    assert row == pytest.approx(64.5 - focal * 0.1 / 1.7, abs=0.1)
    assert float(out.depth[0, 0, int(row), int(column)]) == pytest.approx(1.7, abs=1e-4)
    assert int((coverage > 0.99 * math.exp(-0.5)).sum()) == pytest.approx(math.pi * (focal * 0.05 / 1.7) ** 2, rel=0.03)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_near_covers_what_is_far_on_any_background(backend):
    views = turntable(2, elevation=0, size=33)
    scene = both(one((0, 0, -0.3), rgb=(0, 1, 0), scale=0.1), one((0, 0, 0.3), scale=0.1))
    out = render(scene, views, background=(0.25, 0.5, 1.0), backend=backend)
    assert out.rgb[0, 0, 16, 16] > 0.95 > 0.05 > out.rgb[0, 1, 16, 16]
    assert out.rgb[1, 1, 16, 16] > 0.95 > 0.05 > out.rgb[1, 0, 16, 16]
    assert out.rgb[0, :, 0, 0].tolist() == [0.25, 0.5, 1.0]
    assert (float(out.alpha[0, 0, 0, 0]), float(out.depth[0, 0, 0, 0])) == (0, 0)
    assert out.to_uint8()[0, 0, 0].tolist() == [64, 128, 255]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_mip_filter_keeps_the_light_of_a_tiny_gaussian(backend):
    """A Gaussian far below a pixel neither vanishes nor grows: its sum over the picture stays about the same."""
    views = turntable(1, elevation=0, size=64)
    sums = [
        float(render(one(scale=0.02 * 2**-k), views, backend=backend).alpha.sum()) * 4**k for k in range(2)
    ]  # areas fall by four
    assert sums[1] == pytest.approx(sums[0], rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_in_view(backend):
    views = turntable(1, elevation=0, size=16)
    out = render(one((0, 0, 30.0)), views, background=(1.0, 1.0, 1.0), backend=backend)
    assert bool((out.rgb == 1).all())
    leaves = [getattr(one((50.0, 0, 0)), name).requires_grad_() for name in TENSORS]
    render(Gaussians(*leaves), views, backend=backend).rgb.sum().backward()
    assert float(leaves[0].grad.abs().max()) == 0


def test_numbers_that_are_not_finite(cloud):
    gaussians = cloud(5)
    gaussians.logits[3] = float("nan")
    with refused("1 of 5", "NaN", "logits"):
        render(gaussians, cameras())


@pytest.mark.parametrize("backend", BACKENDS)
def test_extreme_sizes_stay_finite(cloud, backend):
    gaussians = cloud(40)
    gaussians.log_scales[:10] = -40.0
    gaussians.log_scales[10:20, 0] = 8.0
    leaves = [getattr(gaussians, name).clone().requires_grad_() for name in TENSORS]
    out = render(Gaussians(*leaves), cameras(), backend=backend)
    out.rgb.sum().backward()
    assert bool(torch.isfinite(out.rgb).all())
    assert all(bool(torch.isfinite(leaf.grad).all()) for leaf in leaves)


def test_backends_that_cannot_be_had(cloud, monkeypatch):
    with refused("gsplat", "cpu"):
        render(cloud(2), cameras(), backend="gsplat")
    with refused("opengl", "torch", "numba", "gsplat"):
        render(cloud(2), cameras(), backend="opengl")
    monkeypatch.setattr("atoken.gaussians.raster.rasterize.find_spec", lambda name: None)
    with refused("numba", "pip install 'atoken[mesh]'"):
        render(cloud(2), cameras(), backend="numba")
    assert render(cloud(2), cameras()).rgb.shape == (2, 3, 21, 37), "plain torch does without"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_gsplat_draws_the_same(cloud):
    pytest.importorskip("gsplat")
    gaussians, views = cloud(400), cameras(64, 96)
    ours = stacked(gaussians, views, "torch")
    theirs = stacked(gaussians.to("cuda"), views, "gsplat").cpu()
    assert float((ours - theirs).abs().mean()) < 1e-3
    assert np.isfinite(theirs.numpy()).all()
