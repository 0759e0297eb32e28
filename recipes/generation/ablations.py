"""Ablations of a flow on emoji, equal steps each, as one table: what is predicted, shift, alignment, normalisation.

    python recipes/generation/draw_data.py --out data/draw
    atoken tokenize data/draw/train --model nano --features 6 --out data/draw/tokens-features
    python recipes/generation/ablations.py --data data/draw --tokens data/draw/tokens-features --out runs/ablations

Every run is nano-draw.yaml with emoji alone, fewer steps and one change. Velocity losses of different targets are not
comparable, and so the table has what `atoken eval-generation` says of held-out emoji. Finished runs are kept, an
interrupted one goes on: the same command makes the rest. --only takes some of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from atoken import ShardWriter, TokenShards
from atoken.engine.recipe import read_values
from atoken.evaluation.generation.captioned import HELD_OUT, INDEX, TRAIN
from atoken.evaluation.generation.report import FORMAT, cell
from atoken.evaluation.progress import RESULTS
from atoken.evaluation.results import read_results

RECIPE = Path(__file__).with_name("nano-draw.yaml")
EMOJI = "emoji"
CHANGES: dict[str, dict[str, Any]] = {
    "v, shift 1, by channel": {},
    "x": {"objective": {"prediction": "x"}},
    "x, shift 2": {"objective": {"prediction": "x", "shift": 2.0}},
    "shift 2": {"objective": {"shift": 2.0}},
    "aligned, 0.5": {"objective": {"align": 0.5}},
    "whitened": {"whiten": True},
    "x, whitened": {"objective": {"prediction": "x"}, "whiten": True},
    "cosine term": {"objective": {"cosine": 1.0}},
}
"""Without a shift sqrt(48 * 64 / 4096) is below 1, and so it is 1: the first row is "none", too."""
METRICS = ("lite0-frechet", "category-accuracy")


def emoji_of(data: Path, out: Path) -> Path:
    """A folder like ``data`` whose index names emoji alone."""
    folder = out / "data"
    if not (folder / INDEX).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        for split in (TRAIN, HELD_OUT):
            if not (folder / split).exists():
                (folder / split).symlink_to((data / split).resolve())
        lines = (data / INDEX).read_text("utf-8").splitlines()
        kept = [line for line in lines if EMOJI in json.loads(line)["style"]]
        (folder / INDEX).write_text("\n".join(kept) + "\n", "utf-8")
    return folder


def tokens_of(tokens: Path, data: Path, out: Path) -> Path:
    """A shard of the training emoji's tokens with their features. Raises ``SystemExit`` where there are none."""
    path = out / "emoji.atoks"
    if not path.is_file():
        keys = {json.loads(line)["key"] for line in (data / INDEX).read_text("utf-8").splitlines()}
        shards = TokenShards(tokens)
        own = [shards.key(number).partition("/")[2] for number in range(len(shards))]  # after the name of the tar
        numbers = [number for number, key in enumerate(own) if key in keys]
        if not numbers or "features" not in shards[numbers[0]].extras:
            raise SystemExit(f"{tokens} has no emoji with features: atoken tokenize --features 6 makes them")
        with ShardWriter(path) as writer:
            for number in numbers:
                writer.write(shards[number])
    return path


def recipe_of(change: dict[str, Any], shard: Path, steps: int, seed: int) -> dict[str, Any]:
    """nano-draw's recipe with one change."""
    recipe: dict[str, Any] = read_values(RECIPE)
    del recipe["minutes"], recipe["previews"]
    recipe |= {"name": "ablation", "steps": steps, "seed": seed, "log": {"every": 50, "checkpoint_every": 500}}
    recipe["tasks"][0]["shards"] = [str(shard)]
    recipe["optimizer"]["warmup"] = min(100, steps // 10)
    for name, value in change.items():
        recipe[name] = recipe[name] | value if isinstance(value, dict) else value
    return recipe


def work(*command: object) -> None:
    """Run a command of this package. Raises ``CalledProcessError``."""
    subprocess.run([sys.executable, "-m", "atoken.cli", *map(str, command)], check=True)


def main() -> None:
    """Train, draw, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/draw"))
    parser.add_argument("--tokens", type=Path, default=Path("data/draw/tokens-features"))
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--samples", type=int, default=400, help="held-out emoji that are drawn (there are 414)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(CHANGES), default=list(CHANGES))
    args = parser.parse_args()
    data = emoji_of(args.data, args.out)
    shard = tokens_of(args.tokens, data, args.out)
    rows = []
    for name in args.only:
        folder = args.out / f"{list(CHANGES).index(name)}-{args.steps}-{args.seed}"
        recipe = folder.with_suffix(".yaml")
        text = json.dumps(recipe_of(CHANGES[name], shard, args.steps, args.seed), indent=1)  # YAML holds JSON
        recipe.write_text(text, "utf-8")
        if not (folder / "model").is_dir():
            work("train", recipe, "--out", folder)
        work("eval-generation", folder / "model", "--data", data, "--samples", args.samples, "--out", folder / "eval")
        results = read_results(folder / "eval" / RESULTS, FORMAT)
        drawn, *others = results["rows"]
        rows.append([name, *(cell(metric, drawn["metrics"].get(metric)) for metric in METRICS)])
    reference = [[row["name"], *(cell(metric, row["metrics"].get(metric)) for metric in METRICS)] for row in others]
    budget = f"{args.steps} steps, seed {args.seed}"
    table = [f"| {budget} | Lite0 Fréchet distance | category accuracy |", "|---|---:|---:|"]
    table += ["| " + " | ".join(row) + " |" for row in (*rows, *reference)]
    (args.out / "table.md").write_text("\n".join(table) + "\n", "utf-8")
    print("\n".join(table))


if __name__ == "__main__":
    main()
