"""Put numbers and sheets of finished evaluations into docs/generation.md, and drawn pictures on the README's front.

    atoken eval-generation nano-draw --data data/draw --prompts recipes/generation/unseen.txt --out eval-draw
    atoken eval-generation nano-draw-codes --data data/draw --prompts recipes/generation/unseen.txt --out eval-codes
    python recipes/generation/card.py eval-draw eval-codes
    python recipes/generation/card.py --front nano-draw

The pages keep what is filled in between `<!-- drawn -->` and `<!-- /drawn -->`; nothing else is touched. Sheets become
docs/NAME-prompts.jpg, docs/NAME-drawn.jpg and docs/NAME-nearest.jpg, the front's picture docs/drawn.jpg.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atoken import load_generator, read_image, write_image
from atoken.evaluation.generation.report import FORMAT, markdown
from atoken.evaluation.generation.sheets import captioned
from atoken.evaluation.progress import RESULTS
from atoken.evaluation.results import read_results
from atoken.evaluation.tables import fill

ROOT = Path(__file__).parents[2]
PAGE, FRONT_PAGE, MARK = Path("docs/generation.md"), "README.md", "drawn"
SHEETS = {
    "prompts": "Four pictures of each prompt that no caption holds",
    "drawn": "Drawn (left) and held-out pictures (right) of one caption",
    "nearest": "The drawn pictures (left) that are nearest to a training picture (right), by Lite0's features",
}
FRACTION, SHARE = 1.5, 0.8
"""Goals: most of the floor's distance, least of the real pictures' accuracy."""
FRONT = (
    *("a red heart", "a yellow smiling face", "a green tree", "a wooden chair"),
    *("a black cat", "a blue car", "a purple banana", "a red armchair"),
)
"""What the picture of the README's front shows."""
SEED = 1


def goals(results: Mapping[str, Any]) -> str:
    """How the drawn pictures stand to the floor and to real pictures."""
    drawn, floor, *_, real = (row["metrics"] for row in results["rows"])
    distance = drawn["lite0-frechet"]["value"] / floor["lite0-frechet"]["value"]
    share = drawn["category-accuracy"]["value"] / real["category-accuracy"]["value"]
    return (
        f"Its Fréchet distance is {distance:.2f} times the floor (the goal: {FRACTION:g}), its category accuracy "
        f"{100 * share:.0f} % of that of real pictures (the goal: {100 * SHARE:.0f} %)."
    )


def card(folder: Path, docs: Path) -> str:
    """What the page says of one evaluation, whose sheets go to ``docs``."""
    results = read_results(folder / RESULTS, FORMAT)
    name = results["generator"]["name"]
    parts = [f"### {name}", markdown(results), goals(results)]
    sources = {"prompts": "prompts", "drawn": "drawn", "nearest": "nearest-lite0"}
    for kind, source in sources.items():
        if (folder / f"{source}.png").is_file():
            picture = f"{name}-{kind}.jpg"
            write_image(docs / picture, read_image(folder / f"{source}.png"), quality=85)
            parts.append(f"![{SHEETS[kind]}]({picture})\n\n*{SHEETS[kind]}.*")
    return "\n\n".join(parts)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluations", type=Path, nargs="*", help="folders that atoken eval-generation wrote")
    parser.add_argument("--front", metavar="GENERATOR", help="draw the picture of README.md with it")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of the pages")
    args = parser.parse_args()
    docs = args.root / PAGE.parent
    if args.evaluations:
        fill(args.root / PAGE, MARK, "\n\n".join(card(folder, docs) for folder in args.evaluations))
        print(f"filled {PAGE}")
    if args.front:
        generator = load_generator(args.front)
        pictures = generator(list(FRONT), seeds=[SEED] * len(FRONT))
        write_image(docs / "drawn.jpg", captioned(FRONT, [[picture] for picture in pictures], columns=4), quality=90)
        name = generator.config.name
        words = f"Drawn by {name} from the words above each, without choosing: the seed is {SEED} for all of them."
        fill(args.root / FRONT_PAGE, MARK, f"![{words}]({PAGE.parent / 'drawn.jpg'})\n\n*{words}*")
        print(f"drew {docs / 'drawn.jpg'}, filled {FRONT_PAGE}")


if __name__ == "__main__":
    main()
