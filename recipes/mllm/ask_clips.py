"""Clips of flat shapes, some of which move, with questions: which, which way, in what order, how many.

    python recipes/mllm/ask_clips.py --out data/ask/clips --count 4000

Sixteen frames of 96 x 96 pixels at 8 frames a second, as lossless WebP. One pair of shape and colour in eight is held
out: training never shows it, and every test clip does.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from ask_rows import COLOURS, Question, Writer, asked_for
from PIL import Image, ImageDraw
from rich.progress import track

SIDE, FRAMES, FPS, RADIUS = 96, 16, 8, 11
SHAPES = ("circle", "square", "triangle")
WAYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
REACH = 34
"""Pixels that a shape moves."""
HELD_OUT = {pair for place, pair in enumerate(product(SHAPES, COLOURS)) if place % 8 == 3}


@dataclass(frozen=True)
class Mover:
    """One shape; ``way`` is None where it stays, ``start`` the frame in which it begins to move."""

    shape: str
    colour: str
    x: int
    y: int
    way: str | None
    start: int
    frames: int

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.colour} {self.shape}"

    def at(self, frame: int) -> tuple[float, float]:
        """Its centre."""
        dx, dy = WAYS[self.way] if self.way else (0, 0)
        share = min(max((frame - self.start) / self.frames, 0.0), 1.0) - 0.5 * (self.way is not None)
        return self.x + dx * share * REACH, self.y + dy * share * REACH


def movers(rng: random.Random, *, held_out: bool) -> list[Mover]:
    """Two or three shapes of different colours, of which at least one moves, one after the other or at once."""
    pairs = [pair for pair in product(SHAPES, COLOURS) if pair not in HELD_OUT]
    places = rng.sample([(x, y) for x in (29, 67) for y in (29, 67)], rng.choice((2, 3)))
    moving = rng.randint(1, len(places))
    in_turn = rng.random() < 0.5
    found: list[Mover] = []
    for number, (x, y) in enumerate(places):
        wanted = sorted(HELD_OUT) if held_out and not found else pairs
        shape, colour = rng.choice([pair for pair in wanted if pair[1] not in {mover.colour for mover in found}])
        way = rng.choice(sorted(WAYS)) if number < moving else None
        frames = FRAMES // moving if in_turn else FRAMES
        found.append(Mover(shape, colour, x, y, way, number * frames if in_turn else 0, frames - 1))
    rng.shuffle(found)
    return found


def frames_of(found: list[Mover], ground: int) -> list[Image.Image]:
    """The clip."""
    clip = []
    for frame in range(FRAMES):
        image = Image.new("RGB", (SIDE * 2, SIDE * 2), (ground,) * 3)
        pen = ImageDraw.Draw(image)
        for mover in found:
            x, y = (2 * part for part in mover.at(frame))
            r = 2 * RADIUS
            if mover.shape == "circle":
                pen.ellipse((x - r, y - r, x + r, y + r), fill=COLOURS[mover.colour])
            elif mover.shape == "square":
                pen.rectangle((x - r, y - r, x + r, y + r), fill=COLOURS[mover.colour])
            else:
                pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=COLOURS[mover.colour])
        clip.append(image.resize((SIDE, SIDE), Image.Resampling.BOX))
    return clip


def questions(found: list[Mover]) -> Iterator[Question]:
    """All that may be asked of a clip."""
    moving = [mover for mover in found if mover.way]
    asked = "how many shapes move?", "how many of the shapes are moving?", "count the shapes that move."
    yield Question("how many move", asked, str(len(moving)))
    if len(moving) == 1:
        asked = "what colour is the shape that moves?", "which colour moves?", "the moving shape has which colour?"
        yield Question("which moves", asked, moving[0].colour)
    ways = Counter(mover.name for mover in found)
    for mover in found:
        if ways[mover.name] > 1:
            continue
        asked = (
            f"does the {mover.name} move?",
            f"is the {mover.name} moving?",
            f"would you say that the {mover.name} moves?",
        )
        yield Question("moves", asked, "yes" if mover.way else "no")
        if mover.way:
            asked = (
                f"which way does the {mover.name} move?",
                f"where does the {mover.name} go?",
                f"the {mover.name} moves in which direction?",
            )
            yield Question("which way", asked, mover.way)
    if len(moving) > 1 and moving[0].start != moving[1].start:
        first = min(moving, key=lambda mover: mover.start)
        asked = (
            "what colour moves first?",
            "which colour is the first to move?",
            "the shape that begins has which colour?",
        )
        yield Question("order", asked, first.colour)


def main() -> None:
    """Draw the clips and write their questions."""
    arguments = asked_for(__doc__, 4000, "clips")
    rng = random.Random(arguments.seed)
    writer = Writer(arguments.out, rng)
    (arguments.out / "clips").mkdir(parents=True, exist_ok=True)
    for number in track(range(arguments.count), "clips"):
        held_out = number % 10 == 9
        found = movers(rng, held_out=held_out)
        name = f"clips/{number:05}.webp"
        first, *others = frames_of(found, rng.randint(190, 235))
        first.save(
            arguments.out / name, save_all=True, append_images=others, duration=1000 // FPS, lossless=True, quality=0
        )
        writer.ask([("video", name)], questions(found), held_out=held_out, most=4)
    writer.write()


if __name__ == "__main__":
    main()
