"""A chair for the demo: the Gaussian head of one small config, trained on pictures of a chair made here.

    python recipes/gaussians/chair.py --out chair.ply

The chair is boxes on a 64^3 grid, drawn as solid Gaussians; the head has voxels of a 32^3 grid with random features and
learns to draw it from 24 cameras, by the loss that heads are trained with, less its perceptual term. It proves that the
head, the rasterizer and the loss train together; it is no model of chairs. Needs the extra ``mesh``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from atoken import GaussianConfig, Gaussians
from atoken.gaussians.raster.rasterize import render
from atoken.losses.render import render_loss
from atoken.media.views.cameras import hammersley_sphere
from atoken.tokenizer.gaussian_head import GaussianDecoder

FINE, COARSE = 64, 32
WOOD, CUSHION, METAL = (0.55, 0.33, 0.16), (0.75, 0.16, 0.18), (0.30, 0.33, 0.38)
BOXES = (  # low corner, high corner, colour; x to the right, y up, z to the front
    ((16, 30, 16), (48, 34, 48), WOOD),
    ((18, 34, 20), (46, 37, 46), CUSHION),
    *(((x, 4, z), (x + 3, 30, z + 3), METAL) for x in (17, 44) for z in (17, 44)),
    *(((x, 34, 16), (x + 3, 60, 19), WOOD) for x in (16, 45)),
    *(((19, y, 16), (45, y + 5, 18), WOOD) for y in (39, 47, 55)),
)


def chair() -> tuple[Tensor, Tensor]:
    """Surface voxels of the chair int64 [N, 3] on the fine grid, and their colours [N, 3]."""
    grid = torch.zeros(FINE, FINE, FINE, dtype=torch.bool)
    colours = torch.zeros(FINE, FINE, FINE, 3)
    for low, high, colour in BOXES:
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        grid[box], colours[box] = True, torch.tensor(colour)
    grain = 0.85 + 0.15 * torch.sin(torch.arange(FINE) * 1.3)
    colours = colours * grain[:, None, None, None]
    inside = torch.nn.functional.avg_pool3d(grid[None, None].float(), 3, 1, 1)[0, 0] > 0.999
    voxels = torch.nonzero(grid & ~inside)
    return voxels, colours[tuple(voxels.T)]


def solid(voxels: Tensor, colours: Tensor) -> Gaussians:
    """One opaque Gaussian for each fine voxel."""
    count = len(voxels)
    turn = torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1)
    means, scales = (voxels + 0.5) / FINE - 0.5, torch.full((count, 3), 0.5 / FINE)
    return Gaussians.of(means, scales, turn, torch.full((count,), 0.95), colours)


def main() -> None:
    """Train, say how the loss falls, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the splat file to write")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--size", type=int, default=128, help="side of the pictures in pixels")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    voxels, colours = chair()
    cameras = hammersley_sphere(24, size=arguments.size)
    target = render(solid(voxels, colours), cameras).rgb
    coarse = torch.unique(voxels * COARSE // FINE, dim=0)
    coords, feats = torch.cat([coarse[:, :1] * 0, coarse], 1), torch.randn(len(coarse), 768)
    config = GaussianConfig(128, 4, 3, 256, per_voxel=3, resolution=COARSE, scale=0.3 / COARSE)
    head = GaussianDecoder(config)
    optimizer = torch.optim.Adam(head.parameters(), 2e-3, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, arguments.steps)
    for step in range(arguments.steps):
        picked = torch.randperm(len(cameras))[:2].tolist()
        terms = render_loss(render(head(feats, coords), cameras[picked]).rgb, target[picked])
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 10 == 0 or step == arguments.steps - 1:
            print(f"step {step}: " + ", ".join(f"{name} {float(value.detach()):.4f}" for name, value in terms.items()))
    with torch.no_grad():
        gaussians = head(feats, coords)
    gaussians.save(arguments.out)
    print(f"{arguments.out}: {len(gaussians)} Gaussians of {len(coords)} voxels")


if __name__ == "__main__":
    main()
