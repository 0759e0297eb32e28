"""Losses on renders: MS-SSIM against torchmetrics, and a head that learns a chair from its pictures."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as theirs

from atoken import GaussianConfig, Gaussians
from atoken.gaussians.raster.rasterize import render
from atoken.losses.render import render_loss
from atoken.media.views.cameras import hammersley_sphere
from atoken.metrics.ms_ssim import ms_ssim
from atoken.tokenizer.gaussian_head import GaussianDecoder
from refusals import refused


def pair(size: int = 192) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(2, 3, 12, 12), size=(size, size), mode="bicubic").clamp(0, 1)
    return (smooth + 0.1 * torch.randn_like(smooth)).clamp(0, 1), smooth


def test_ms_ssim_is_that_of_others():
    noisy, smooth = pair()
    expected = theirs(noisy, smooth, data_range=1.0, reduction="none", normalize=None)
    torch.testing.assert_close(ms_ssim(noisy, smooth), expected, atol=1e-3, rtol=0)


def test_ms_ssim_orders_and_ends():
    noisy, smooth = pair(64)
    assert torch.allclose(ms_ssim(smooth, smooth), torch.ones(2), atol=1e-5)
    assert bool((ms_ssim(noisy, smooth) < ms_ssim((noisy + smooth) / 2, smooth)).all())
    inverted = (1 - smooth).requires_grad_()
    ms_ssim(inverted, smooth).sum().backward()
    assert bool(torch.isfinite(inverted.grad).all())
    with refused("11"):
        ms_ssim(smooth[..., :8], smooth[..., :8])


def test_the_weights_of_the_terms():
    noisy, smooth = pair(64)
    terms = render_loss(noisy, smooth, lambda a, b: (a - b).square().mean((1, 2, 3)))
    assert float(terms["l1"]) == pytest.approx(float((noisy - smooth).abs().mean()))
    assert float(terms["structure"]) == pytest.approx(0.2 * float((1 - ms_ssim(noisy, smooth)).mean()), rel=1e-5)
    assert float(terms["perceptual"]) == pytest.approx(0.2 * 4 * float((noisy - smooth).square().mean()), rel=1e-5)
    assert {"perceptual", "log_mse"}.isdisjoint(render_loss(noisy, smooth))
    logs = (noisy - smooth).square().mean((1, 2, 3)).log()
    assert float(render_loss(noisy, smooth, log_error=0.3)["log_mse"]) == pytest.approx(0.3 * float(logs.mean()))


def box(low: tuple[int, int, int], high: tuple[int, int, int]) -> torch.Tensor:
    return torch.cartesian_prod(*(torch.arange(a, b) for a, b in zip(low, high, strict=True)))


def chair() -> tuple[torch.Tensor, Gaussians]:
    """Voxels [N, 4] of a chair on a 16^3 grid, and pictures' worth of solid Gaussians: red seat and back, blue legs."""
    seat, back = box((4, 7, 4), (12, 8, 12)), box((4, 8, 4), (12, 15, 5))
    legs = torch.cat([box((x, 2, z), (x + 1, 7, z + 1)) for x in (4, 11) for z in (4, 11)])
    voxels = torch.cat([seat, back, legs])
    red = torch.tensor([0.8, 0.2, 0.1]).expand(len(seat) + len(back), 3)
    rgb = torch.cat([red, torch.tensor([0.1, 0.2, 0.7]).expand(len(legs), 3)])
    count = len(voxels)
    solid = Gaussians.of(
        (voxels + 0.5) / 16 - 0.5,
        torch.full((count, 3), 0.45 / 16),
        torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        torch.full((count,), 0.98),
        rgb,
    )
    return torch.cat([voxels[:, :1] * 0, voxels], 1), solid


@pytest.mark.slow
def test_a_head_learns_a_chair_from_its_pictures():
    """The loss falls to a fraction, also in views that training never saw."""
    coords, solid = chair()
    torch.manual_seed(0)
    feats = torch.randn(len(coords), 768)
    config = GaussianConfig(width=48, heads=4, depth=2, mlp_width=96, per_voxel=4, resolution=16, scale=0.4 / 16)
    head = GaussianDecoder(config)
    optimizer = torch.optim.Adam(head.parameters(), 3e-3)
    views, held_out = hammersley_sphere(8, size=32), hammersley_sphere(4, size=32, offset=0.37)
    references = render(solid, views).rgb
    losses = []
    for step in range(40):
        picked = [step % 8, (step + 3) % 8]
        terms = render_loss(render(head(feats, coords), views[picked]).rgb, references[picked])
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-8:]) < 0.35 * sum(losses[:8])
    with torch.no_grad():
        error = (render(head(feats, coords), held_out).rgb - render(solid, held_out).rgb).square().mean()
        grey = (render(GaussianDecoder(config)(feats, coords), held_out).rgb - render(solid, held_out).rgb).square()
    assert float(error) < 0.2 * float(grey.mean())
