"""Make the clip that the demo shows out of the bundled photographs and the bundled chair; by seed, the same every time.

python recipes/clips/made.py        # writes src/atoken/assets/clips/made.mp4; needs the extra video
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import atoken
from atoken.data.synthetic_video import synthetic_clip
from atoken.gaussians.raster.rasterize import render
from atoken.media.video.writer import write_video
from atoken.media.views.cameras import turntable

ASSETS = Path(atoken.__file__).parent / "assets"
SCENES = (("chelsea", 4), ("coffee", 7), ("rocket", 5))
"""Photographs and seeds."""
FRAMES, SIZE, FPS = 32, (192, 256), 16.0


def chair() -> np.ndarray:
    """The chair from one side, uint8 RGBA."""
    gaussians = atoken.Gaussians.load(ASSETS / "splats/chair.ply")
    picture = render(gaussians, turntable(1, size=160, distance=1.8))
    alpha = picture.alpha[0].permute(1, 2, 0).clamp(0, 1).numpy()  # rgb is on black: divided by alpha again
    colours = picture.rgb[0].permute(1, 2, 0).numpy() / np.maximum(alpha, 1e-3)
    return (np.concatenate([colours, alpha], -1).clip(0, 1) * 255).round().astype(np.uint8)


def main() -> None:
    """Write the clip."""
    frames: list[np.ndarray] = []
    stamp = chair()
    for name, seed in SCENES:
        photo = atoken.read_image(ASSETS / f"photos/{name}.jpg")
        frames += synthetic_clip([photo], [stamp], seed=seed, frames=FRAMES, size=SIZE, fps=FPS)
    write_video(ASSETS / "clips/made.mp4", atoken.Clip(frames, fps=FPS), fps=FPS, quality=24)


if __name__ == "__main__":
    main()
