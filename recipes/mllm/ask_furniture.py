"""Furniture made of boxes, each piece as a picture, a turntable clip and voxels, with the same questions of all three.

    python recipes/mllm/ask_furniture.py --out data/ask/furniture --count 600        # needs the extra mesh

Chairs, stools, tables and sofas with three or four legs, with or without arms, in eight colours; every third asset is
a pair of pieces, of which one is taller. One pair of kind and colour in eight is held out: training never shows it,
and every test asset does.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ask_rows import COLOURS, Question, Writer
from PIL import Image
from rich.progress import track

from atoken.core.files import atomic_write
from atoken.media.mesh import Asset, read_asset
from atoken.media.views.cameras import orbit, turntable
from atoken.media.views.views import render_views
from atoken.media.views.voxels import occupied_voxels

KINDS = ("chair", "stool", "table", "sofa")
RESOLUTION, SIDE, TURNS = 32, 128, 12
"""Voxels of nano's grid; pixels of pictures and clips; frames of a turntable."""
HELD_OUT = {pair for place, pair in enumerate(product(KINDS, COLOURS)) if place % 8 == 3}
Box = tuple[tuple[float, float, float], tuple[float, float, float]]
LIGHT = {(1, 1): 1.2, (1, 0): 0.55, (0, 0): 0.8, (0, 1): 0.9, (2, 0): 0.85, (2, 1): 1.0}
"""Of the faces of a box by axis and end: y up, z to the front."""


@dataclass(frozen=True)
class Piece:
    """One piece, a unit wide."""

    kind: str
    colour: str
    legs: int
    arms: bool
    height: float
    """Of the seat or the top."""

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.colour} {self.kind}"

    @property
    def top(self) -> float:
        """Its height in all."""
        return self.height + {"chair": 0.75, "sofa": 0.45}.get(self.kind, 0.08)

    def boxes(self) -> Iterator[Box]:
        """Low and high corners."""
        wide = {"sofa": 1.0, "table": 0.8}.get(self.kind, 0.45)
        deep = {"table": 0.5}.get(self.kind, 0.45)
        yield (-wide, self.height, -deep), (wide, self.height + (0.2 if self.kind == "sofa" else 0.08), deep)
        feet = [
            (-wide + 0.05, deep - 0.1),
            (wide - 0.12, deep - 0.1),
            (-wide + 0.05, 0.02 - deep),
            (wide - 0.12, 0.02 - deep),
        ]
        if self.legs == 3:
            feet = [*feet[:2], (-0.04, 0.02 - deep)]
        for x, z in feet:
            yield (x, 0.0, z), (x + 0.08, self.height, z + 0.08)
        if self.kind in ("chair", "sofa"):
            yield (-wide, self.height, -deep), (wide, self.top, 0.1 - deep)
        if self.arms:
            for x in (-wide, wide - 0.1):
                yield (x, self.height + 0.22, -deep), (x + 0.1, self.height + 0.3, deep - 0.05)
                yield (x, self.height, deep - 0.15), (x + 0.1, self.height + 0.22, deep - 0.05)


def piece(rng: random.Random, *, held_out: bool, unlike: Piece | None = None) -> Piece:
    """A random piece, of another colour than ``unlike``."""
    pairs = sorted(HELD_OUT) if held_out else [pair for pair in product(KINDS, COLOURS) if pair not in HELD_OUT]
    kind, colour = rng.choice([pair for pair in pairs if unlike is None or pair[1] != unlike.colour])
    arms = kind in ("chair", "sofa") and rng.random() < 0.5
    return Piece(kind, colour, rng.choice((3, 4)), arms, rng.uniform(0.3, 0.9))


def asset_of(pieces: list[Piece], path: Path) -> Asset:
    """Side by side, through a PLY file of boxes whose faces are lit by their direction."""
    vertices: list[tuple[float, ...]] = []
    faces: list[list[int]] = []
    offset = 0.0
    for each in pieces:
        width = max(high[0] for _, high in each.boxes())
        offset += width
        for low, high in each.boxes():
            ends = np.array([low, high])
            for (axis, end), light in LIGHT.items():
                others = [other for other in range(3) if other != axis]
                corners = np.zeros((4, 3))
                corners[:, axis] = ends[end, axis]
                corners[:, others[0]] = ends[[0, 1, 1, 0], others[0]]
                corners[:, others[1]] = ends[[0, 0, 1, 1], others[1]]
                corners[:, 0] += offset
                colour = np.clip(np.array(COLOURS[each.colour]) * light + 8, 0, 255).astype(int)
                faces += [
                    [len(vertices), len(vertices) + 1, len(vertices) + 2],
                    [len(vertices), len(vertices) + 2, len(vertices) + 3],
                ]
                vertices += [(*corner, *colour) for corner in corners]
        offset += width + 0.4
    head = "ply\nformat ascii 1.0\n" + f"element vertex {len(vertices)}\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz")
    head += "".join(f"property uchar {name}\n" for name in ("red", "green", "blue"))
    head += f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    body = [" ".join(map(str, vertex)) for vertex in vertices] + [f"3 {a} {b} {c}" for a, b, c in faces]
    path.write_text(head + "\n".join(body) + "\n")
    return read_asset(path)


def write_looks(asset: Asset, name: str, out: Path, rng: random.Random) -> list[tuple[str, str]]:
    """A picture from the front or the side of it, a turntable and packed voxels; pairs of type and path."""
    turn, up = np.radians(rng.uniform(-50, 50)), np.radians(rng.uniform(10, 30))
    direction = torch.tensor([[np.cos(up) * np.sin(turn), np.sin(up), np.cos(up) * np.cos(turn)]])
    picture = render_views(asset, orbit(direction, fov=40.0, size=SIDE)).colour[0]
    Image.fromarray(picture).save(out / f"pictures/{name}.png")
    first, *others = map(Image.fromarray, render_views(asset, turntable(TURNS, size=SIDE)).colour)
    first.save(out / f"clips/{name}.webp", save_all=True, append_images=others, duration=250, lossless=True, quality=0)
    views = render_views(asset)
    voxels, patch = occupied_voxels(views, resolution=RESOLUTION)
    arrays: dict[str, Any] = {f"voxels{RESOLUTION}": voxels.byte().numpy(), f"patch{RESOLUTION}": patch.byte().numpy()}
    with atomic_write(out / f"voxels/{name}.npz") as file:
        np.savez_compressed(file, views=views.colour, held_out=views.colour[:1], **arrays)
    return [("image", f"pictures/{name}.png"), ("video", f"clips/{name}.webp"), ("3d", f"voxels/{name}.npz")]


def questions(pieces: list[Piece]) -> Iterator[Question]:
    """All that may be asked of an asset."""
    if len(pieces) == 2:
        one, other = pieces
        if abs(one.top - other.top) > 0.2:
            taller = max(pieces, key=lambda each: each.top)
            asked = "what colour is the taller piece?", "which colour is taller?", "the taller one has which colour?"
            yield Question("taller", asked, taller.colour)
        return
    (only,) = pieces
    asked = "what is this?", "what piece of furniture is it?", "what kind of furniture do you see?"
    yield Question("kind", asked, only.kind)
    asked = "what colour is it?", "which colour has it?", "it is of which colour?"
    yield Question("colour", asked, only.colour)
    asked = "how many legs has it?", "how many legs does it have?", "count its legs."
    yield Question("legs", asked, str(only.legs))
    if only.kind in ("chair", "sofa"):
        asked = "has it arms?", "does it have arms?", "are there arms on it?"
        yield Question("arms", asked, "yes" if only.arms else "no")


def main() -> None:
    """Make the pieces and write their questions, the same of all three looks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=600, help="assets, one in six of them held out")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    out: Path = arguments.out
    rng = random.Random(arguments.seed)
    writers = {kind: Writer(out / kind, random.Random(arguments.seed)) for kind in ("image", "video", "3d")}
    for folder in ("pictures", "clips", "voxels"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for number in track(range(arguments.count), "furniture"):
        held_out = number % 6 == 5
        pieces = [piece(rng, held_out=held_out)]
        if number % 3 == 1:
            pieces.append(piece(rng, held_out=False, unlike=pieces[0]))
        asset = asset_of(pieces, out / "piece.ply")
        for kind, path in write_looks(asset, f"{number:05}", out, rng):
            writers[kind].ask([(kind, f"../{path}")], questions(pieces), held_out=held_out, most=4)
    (out / "piece.ply").unlink(missing_ok=True)
    for writer in writers.values():
        writer.write()


if __name__ == "__main__":
    main()
