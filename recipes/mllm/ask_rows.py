"""What the makers of questions share: rows, balanced answers, held-out objects and templates."""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atoken.core.files import atomic_write

SPLITS = ("train", "test", "templates")
"""Rows to learn from; rows of objects that training never shows, with its templates; and those objects with others."""
COLOURS = {
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
"""The colours of CLEVR (facebookresearch/clevr-dataset-gen)."""


@dataclass(frozen=True)
class Question:
    """A question in several wordings, the last of which is for ``templates`` alone."""

    kind: str
    wordings: tuple[str, ...]
    answer: str


@dataclass
class Writer:
    """Collects rows of three splits, and takes of each kind the answers that were asked least so far."""

    out: Path
    rng: random.Random
    rows: dict[str, list[str]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    asked: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def ask(
        self, files: Sequence[tuple[str, str]], questions: Iterable[Question], *, held_out: bool, most: int
    ) -> None:
        """Up to ``most`` questions, one of each kind, about ``files``, pairs of type and path below ``out``."""
        split = "test" if held_out else "train"
        for question in self._chosen(list(questions), split, most):
            known, other = question.wordings[:-1], question.wordings[-1]
            self._add(split, files, question, self.rng.choice(known))
            if held_out:
                self._add("templates", files, question, other)

    def _chosen(self, questions: list[Question], split: str, most: int) -> list[Question]:
        self.rng.shuffle(questions)
        questions.sort(key=lambda question: self.asked[split, question.kind, question.answer])
        chosen: dict[str, Question] = {}
        for question in questions:
            if question.kind not in chosen and len(chosen) < most:
                chosen[question.kind] = question
                self.asked[split, question.kind, question.answer] += 1
        return list(chosen.values())

    def _add(self, split: str, files: Sequence[tuple[str, str]], question: Question, words: str) -> None:
        sources: list[dict[str, Any]] = [{"type": kind, "path": path} for kind, path in files]
        prompt = [{"role": "user", "content": [*sources, {"type": "text", "text": words}]}]
        completion = [{"role": "assistant", "content": question.answer}]
        self.rows[split].append(json.dumps({"prompt": prompt, "completion": completion, "kind": question.kind}))

    def write(self) -> None:
        """One file a split."""
        for split, rows in self.rows.items():
            if rows:
                write_lines(self.out / f"{split}.jsonl", rows)
        print(f"{self.out}: " + ", ".join(f"{len(rows)} {split}" for split, rows in self.rows.items()))


def asked_for(about: str | None, count: int, what: str) -> argparse.Namespace:
    """The options of a maker of ``what``: ``out``, ``count``, ``seed``."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=count, help=f"{what}, one in ten of them held out")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a file of lines, all or nothing."""
    with atomic_write(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), "utf-8")
