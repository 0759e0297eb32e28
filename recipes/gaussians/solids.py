"""The chair and the duck of the demo: plain shapes with a baked light, packed as a model reads them.

python recipes/gaussians/solids.py --out src/atoken/assets/solids     # needs the extra mesh, and trimesh
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from chair import BOXES

from atoken.core.files import atomic_write
from atoken.media.mesh import read_asset
from atoken.media.views.cameras import hammersley_sphere
from atoken.media.views.views import DISTANCE, render_views
from atoken.media.views.voxels import occupied_voxels

LIGHT = np.array([0.4, 0.8, 0.45])
YELLOW, ORANGE, BLACK = (0.98, 0.80, 0.16), (0.95, 0.45, 0.10), (0.08, 0.07, 0.07)
DUCK = (  # centre and half-axes of ellipsoids, x to the right, y up, z to the front
    ((0.0, 0.0, 0.0), (0.36, 0.28, 0.48), YELLOW),
    ((0.0, 0.12, -0.46), (0.16, 0.12, 0.18), YELLOW),
    *(((side * 0.33, 0.04, -0.04), (0.08, 0.17, 0.30), YELLOW) for side in (-1, 1)),
    ((0.0, 0.42, 0.30), (0.25, 0.24, 0.25), YELLOW),
    ((0.0, 0.37, 0.56), (0.13, 0.05, 0.14), ORANGE),
    *(((side * 0.12, 0.50, 0.49), (0.04, 0.05, 0.04), BLACK) for side in (-1, 1)),
)
RESOLUTIONS, HELD_OUT_VIEWS = (32, 64), 2


def ellipsoid(centre: tuple[float, ...], axes: tuple[float, ...]) -> Any:
    """A smooth one."""
    shape = trimesh.creation.icosphere(4)
    shape.apply_scale(axes)
    return shape.apply_translation(centre)


def box(low: tuple[float, ...], high: tuple[float, ...]) -> Any:
    """An upright one, whose faces do not share vertices and so not their light."""
    shape = trimesh.creation.box(bounds=(low, high))
    shape.unmerge_vertices()
    return shape


def lit(shape: Any, colour: tuple[float, ...]) -> Any:
    """The shape in its colour, darker where it turns from the light."""
    shade = 0.62 + 0.38 * (shape.vertex_normals @ LIGHT / np.linalg.norm(LIGHT)).clip(-0.6, 1)
    rgb = np.round(255 * np.array(colour) * shade[:, None]).clip(0, 255)
    shape.visual.vertex_colors = np.concatenate([rgb, np.full((len(rgb), 1), 255)], 1).astype(np.uint8)
    return shape


def pack(shapes: list[Any], target: Path) -> None:
    """Write views, voxels and patches of the joined shapes (atoken/media/packed.py)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{target.stem}.ply"
        trimesh.util.concatenate(shapes).export(path)
        asset = read_asset(path)
    views = render_views(asset)
    others = render_views(asset, hammersley_sphere(HELD_OUT_VIEWS, offset=0.5, distance=DISTANCE))
    arrays: dict[str, Any] = {"views": views.colour, "held_out": others.colour}
    for side in RESOLUTIONS:
        voxels, patch = occupied_voxels(views, resolution=side)
        arrays |= {f"voxels{side}": voxels.byte().numpy(), f"patch{side}": patch.byte().numpy()}
    with atomic_write(target) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def main() -> None:
    """Write both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for chair.npz and duck.npz")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    pack([lit(box(low, high), colour) for low, high, colour in BOXES], out / "chair.npz")
    pack([lit(ellipsoid(centre, axes), colour) for centre, axes, colour in DUCK], out / "duck.npz")


if __name__ == "__main__":
    main()
