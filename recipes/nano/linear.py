"""The linear baseline of nano's evaluation: principal components of the training pictures' patches.

    python recipes/nano/linear.py --data data/nano --out recipes/nano/linear.safetensors

``linear.safetensors`` beside this file is what it writes, so that `make eval` needs no training data.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from atoken.data.config import CropsConfig
from atoken.data.crops import Crops
from atoken.evaluation.linear import LinearProjection

STEPS, TOKENS, DIRECTIONS = 128, 4096, 64


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/nano"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("linear.safetensors"))
    args = parser.parse_args()
    crops = Crops(CropsConfig(str(args.data)), tokens=TOKENS, seed=1)
    origin = f"{STEPS * TOKENS} patches of random 128 x 128 crops of nano's training pictures (recipes/nano/DATA.md)"
    LinearProjection.fit((crops.batch(step).packed.feats for step in range(STEPS)), DIRECTIONS, origin).save(args.out)
    print(f"{DIRECTIONS} directions of {origin} in {args.out}")


if __name__ == "__main__":
    main()
