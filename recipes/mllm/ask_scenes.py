"""Scenes of spheres, cubes and cylinders on a floor, drawn here, with questions: what, how many, where, more or fewer.

    python recipes/mllm/ask_scenes.py --out data/ask/scenes --count 6000

The idea and the colours, shapes, sizes, materials and relations are CLEVR's (arXiv 1612.06890); the drawing and the
questions are not. One pair of shape and colour in eight is held out: training never shows it, every test scene does.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from ask_rows import COLOURS, Question, Writer, asked_for
from PIL import Image, ImageDraw
from rich.progress import track

SIDE, OVER = 128, 3
"""Pixels of a picture, and how many times larger it is drawn."""
SHAPES = ("cube", "sphere", "cylinder")
MATERIALS = ("rubber", "metal")
SIZES = {"large": 0.62, "small": 0.36}
"""Half of a side, in units of the floor, which reaches from -2 to 2 and from -2 to 2.6."""
CAMERA, HEIGHT, FOCAL = 7.0, 4.5, 0.95
HELD_OUT = {(shape, colour) for place, (shape, colour) in enumerate(product(SHAPES, COLOURS)) if place % 8 == 3}
FEWEST, MOST = 3, 6


@dataclass(frozen=True)
class Thing:
    """One object, at x to the right and z to the back."""

    shape: str
    colour: str
    material: str
    size: str
    x: float
    z: float

    @property
    def name(self) -> str:
        """Enough words to tell it from most others."""
        return f"{self.size} {self.colour} {self.shape}"

    def at(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Where a point beside its foot appears, in pixels of the drawing."""
        depth = CAMERA + self.z + z
        scale = FOCAL / depth * SIDE * OVER
        return SIDE * OVER / 2 + (self.x + x) * scale, SIDE * OVER * 0.06 + (HEIGHT - y) * scale


def scene(rng: random.Random, *, held_out: bool) -> list[Thing]:
    """Things that keep their distance; with ``held_out`` one of a pair that training never shows."""
    pairs = [pair for pair in product(SHAPES, COLOURS) if pair not in HELD_OUT]
    things: list[Thing] = []
    count = rng.randint(FEWEST, MOST)
    while len(things) < count:
        wanted = sorted(HELD_OUT) if held_out and not things else pairs
        shape, colour = rng.choice(wanted)
        place = rng.uniform(-2.0, 2.0), rng.uniform(-2.0, 2.6)
        thing = Thing(shape, colour, rng.choice(MATERIALS), rng.choice(sorted(SIZES)), *place)
        if all(
            (thing.x - other.x) ** 2 + (thing.z - other.z) ** 2 > 1 and not _hidden(thing, other) for other in things
        ):
            things.append(thing)
    return things


def _hidden(one: Thing, other: Thing) -> bool:
    """Whether the nearer of two covers the middle of the farther."""
    near, far = sorted((one, other), key=lambda each: each.z)
    middle, covered = near.at(0, SIZES[near.size], 0), far.at(0, SIZES[far.size], 0)
    radius = near.at(SIZES[near.size], SIZES[near.size], 0)[0] - middle[0]
    return float(np.hypot(middle[0] - covered[0], middle[1] - covered[1])) < 1.1 * radius


def draw(things: list[Thing], rng: random.Random) -> Image.Image:
    """Far ones first, each with its shadow."""
    side = SIDE * OVER
    light = rng.randint(170, 200)
    floor = np.linspace(light - 45, light + 20, side)[:, None, None]
    image = Image.fromarray(np.broadcast_to(floor, (side, side, 3)).astype(np.uint8))
    for thing in sorted(things, key=lambda each: -each.z):
        half = SIZES[thing.size]
        shadow = ImageDraw.Draw(image)
        low, high = thing.at(-1.1 * half, 0, 1.1 * half), thing.at(1.5 * half, 0, -1.1 * half)
        shadow.ellipse((low[0], low[1], high[0], high[1]), fill=(light - 80,) * 3)
        {"cube": _cube, "sphere": _sphere, "cylinder": _cylinder}[thing.shape](image, thing, half)
    return image.resize((SIDE, SIDE), Image.Resampling.BOX)


def _shade(thing: Thing, light: float) -> tuple[int, int, int]:
    red, green, blue = (min(int(part * light), 255) for part in COLOURS[thing.colour])
    return red, green, blue


def _cube(image: Image.Image, thing: Thing, half: float) -> None:
    pen = ImageDraw.Draw(image)
    faces = {
        1.25: [(-half, 2 * half, -half), (half, 2 * half, -half), (half, 2 * half, half), (-half, 2 * half, half)],
        1.0: [(-half, 0, -half), (half, 0, -half), (half, 2 * half, -half), (-half, 2 * half, -half)],
        0.7: [(half, 0, -half), (half, 0, half), (half, 2 * half, half), (half, 2 * half, -half)]
        if thing.x < 0
        else [(-half, 0, -half), (-half, 0, half), (-half, 2 * half, half), (-half, 2 * half, -half)],
    }
    for light, corners in faces.items():
        pen.polygon([thing.at(*corner) for corner in corners], fill=_shade(thing, light))
    if thing.material == "metal":
        a, b = thing.at(-0.6 * half, 1.7 * half, -half), thing.at(0.1 * half, 1.5 * half, -half)
        pen.polygon([a, (b[0], a[1]), b, (a[0], b[1])], fill=_shade(thing, 1.9))


def _sphere(image: Image.Image, thing: Thing, half: float) -> None:
    centre, edge = thing.at(0, half, 0), thing.at(half, half, 0)
    radius = edge[0] - centre[0]
    _shaded(image, thing, centre, radius, radius)


def _cylinder(image: Image.Image, thing: Thing, half: float) -> None:
    pen = ImageDraw.Draw(image)
    left, right = thing.at(-half, 0, 0), thing.at(half, 2 * half, 0)
    flat = (right[0] - left[0]) * 0.18
    for column in range(int(left[0]), int(right[0]) + 1):
        across = (column - left[0]) / max(right[0] - left[0], 1)
        light = 0.65 + 0.5 * float(np.sin(np.pi * (0.15 + 0.7 * across)))
        if thing.material == "metal" and 0.28 < across < 0.4:
            light *= 1.6
        pen.line([(column, right[1]), (column, left[1])], fill=_shade(thing, light))
    pen.ellipse((left[0], left[1] - flat, right[0], left[1] + flat), fill=_shade(thing, 0.8))
    pen.ellipse((left[0], right[1] - flat, right[0], right[1] + flat), fill=_shade(thing, 1.3))


def _shaded(image: Image.Image, thing: Thing, centre: tuple[float, float], width: float, height: float) -> None:
    """An ellipse that is lit from the upper left, with a highlight where it is of metal."""
    box = [int(centre[0] - width), int(centre[1] - height), int(centre[0] + width) + 1, int(centre[1] + height) + 1]
    rows, columns = np.mgrid[box[1] : box[3], box[0] : box[2]]
    x, y = (columns + 0.5 - centre[0]) / width, (rows + 0.5 - centre[1]) / height
    inside = x**2 + y**2 < 1
    z = np.sqrt(np.clip(1 - x**2 - y**2, 0, 1))
    light = 0.45 + 0.75 * np.clip(-0.45 * x - 0.6 * y + 0.66 * z, 0, 1)
    colour = light[..., None] * np.array(COLOURS[thing.colour])
    if thing.material == "metal":
        spot = np.clip(1 - ((x + 0.35) ** 2 + (y + 0.4) ** 2) / 0.08, 0, 1)
        colour = colour + spot[..., None] * 190
    ball = Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8))
    image.paste(ball, (box[0], box[1]), Image.fromarray(inside.astype(np.uint8) * 255))


def questions(things: list[Thing]) -> Iterator[Question]:
    """All that may be asked of a scene."""
    yield from _counts(things)
    for thing in things:
        if sum(other.shape == thing.shape and other.colour == thing.colour for other in things) == 1:
            name = f"{thing.colour} {thing.shape}"
            asked = f"what size is the {name}?", f"how big is the {name}?", f"the {name} is of which size?"
            yield Question("size", asked, thing.size)
            asked = f"what is the {name} made of?", f"of what is the {name}?", f"the {name} is of which material?"
            yield Question("material", asked, thing.material)
        if sum(other.shape == thing.shape and other.size == thing.size for other in things) == 1:
            name = f"{thing.size} {thing.shape}"
            asked = f"what colour is the {name}?", f"which colour has the {name}?", f"the {name} is of which colour?"
            yield Question("colour", asked, thing.colour)
        if sum(other.colour == thing.colour for other in things) == 1:
            name = f"{thing.colour} thing"
            asked = f"what shape is the {name}?", f"which shape has the {name}?", f"the {name} is of which shape?"
            yield Question("shape", asked, thing.shape)
    yield from _relations(things)


def _counts(things: list[Thing]) -> Iterator[Question]:
    shapes, colours = Counter(t.shape for t in things), Counter(t.colour for t in things)
    for shape in SHAPES:
        asked = f"how many {shape}s are there?", f"how many {shape}s do you see?", f"count the {shape}s."
        yield Question("count", asked, str(shapes[shape]))
    asked = "how many things are there?", "how many things do you see?", "count the things."
    yield Question("count", asked, str(len(things)))
    for colour, shape in product(COLOURS, SHAPES):
        there = any(t.colour == colour and t.shape == shape for t in things)
        if there or colours[colour] or shapes[shape]:
            name = f"{colour} {shape}"
            asked = f"is there a {name}?", f"do you see a {name}?", f"can a {name} be found?"
            yield Question("exist", asked, "yes" if there else "no")
    for one, other in product(SHAPES, SHAPES):
        if one < other and shapes[one] != shapes[other]:
            asked = (
                f"are there more {one}s than {other}s?",
                f"do {one}s outnumber {other}s?",
                f"is the number of {one}s greater than that of {other}s?",
            )
            yield Question("compare", asked, "yes" if shapes[one] > shapes[other] else "no")


def _relations(things: list[Thing]) -> Iterator[Question]:
    names = Counter(thing.name for thing in things)
    known = [thing for thing in things if names[thing.name] == 1]
    for one, other in product(known, known):
        if one is other:
            continue
        for word, holds, clear in (
            ("left of", one.x < other.x, abs(one.x - other.x) > 0.5),
            ("in front of", one.z < other.z, abs(one.z - other.z) > 0.5),
        ):
            if clear:
                asked = (
                    f"is the {one.name} {word} the {other.name}?",
                    f"does the {one.name} stand {word} the {other.name}?",
                    f"would you say that the {one.name} is {word} the {other.name}?",
                )
                yield Question("relation", asked, "yes" if holds else "no")


def main() -> None:
    """Draw the scenes and write their questions."""
    arguments = asked_for(__doc__, 6000, "scenes")
    rng = random.Random(arguments.seed)
    writer = Writer(arguments.out, rng)
    (arguments.out / "pictures").mkdir(parents=True, exist_ok=True)
    for number in track(range(arguments.count), "scenes"):
        held_out = number % 10 == 9
        things = scene(rng, held_out=held_out)
        name = f"pictures/{number:05}.png"
        draw(things, rng).save(arguments.out / name)
        writer.ask([("image", name)], questions(things), held_out=held_out, most=5)
    writer.write()


if __name__ == "__main__":
    main()
