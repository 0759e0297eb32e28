"""Fill the tables of README.md and the model cards from the results of `make eval`.

    python recipes/nano/cards.py eval/results.json

Every page keeps its table between `<!-- numbers -->` and `<!-- /numbers -->`; nothing else is touched.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from atoken.evaluation.results import read_results
from atoken.evaluation.tables import fill, markdown

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "MODEL_CARD.md", "recipes/nano/README.md")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="results.json of an evaluation")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of the pages")
    args = parser.parse_args()
    text = markdown(read_results(args.results))
    for page in PAGES:
        fill(args.root / page, "numbers", text)
        print(f"filled {page}")


if __name__ == "__main__":
    main()
