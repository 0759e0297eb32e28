"""Measure a trained model on question sets, beside the majority, shuffled sources and text alone.

    python recipes/mllm/measure_ask.py runs/nano-ask/model data/ask/easy-vqa data/ask/scenes --limit 500 --out ask.json

Each folder has ``train.jsonl`` (for the majority) and ``test.jsonl``, and where there are held-out wordings
``templates.jsonl``.
"""

from __future__ import annotations

import argparse
import json
from itertools import islice
from pathlib import Path
from typing import Any

import torch

import atoken
from atoken.core.files import atomic_write
from atoken.mllm.measure import CONTROLS, accuracy, answers, majority
from atoken.mllm.rows import read_rows


def measured(mllm: Any, folder: Path, split: str, limit: int | None) -> dict[str, Any]:
    """Accuracies by column and kind, and the rows that were answered wrongly."""
    rows = list(islice(read_rows(folder / f"{split}.jsonl"), limit))
    told = {"model": answers(mllm, rows)} | {control: answers(mllm, rows, control=control) for control in CONTROLS}
    told["majority"] = majority(read_rows(folder / "train.jsonl"), rows)
    columns = {name: accuracy(rows, each) for name, each in told.items()}
    wrong = [
        {"where": row.where, "question": row.prompt[-1]["content"][-1]["text"], "answer": row.answer, "said": said}
        for row, said in zip(rows, told["model"], strict=True)
        if said.lower() != row.answer
    ]
    return {"set": str(folder), "split": split, "rows": len(rows), "accuracy": columns, "wrong": wrong[:50]}


def table(result: dict[str, Any]) -> str:
    """Markdown, one line a kind."""
    columns = result["accuracy"]
    lines = [f"{result['set']}, {result['split']}, {result['rows']} rows", f"| kind | {' | '.join(columns)} |"]
    lines.append("|---|" + "---:|" * len(columns))
    for kind in columns["model"]:
        lines.append(f"| {kind} | " + " | ".join(f"{100 * column[kind]:.1f}" for column in columns.values()) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print tables and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("sets", type=Path, nargs="+")
    parser.add_argument("--limit", type=int, help="rows of each split")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    mllm = atoken.load_mllm(arguments.model)
    results = []
    for folder in arguments.sets:
        for split in ("test", "templates"):
            if (folder / f"{split}.jsonl").exists():
                results.append(measured(mllm, folder, split, arguments.limit))
                print(table(results[-1]), end="\n\n", flush=True)
    told = {"atoken": atoken.__version__, "torch": torch.__version__, "model": str(arguments.model), "results": results}
    with atomic_write(arguments.out) as temporary:
        temporary.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
