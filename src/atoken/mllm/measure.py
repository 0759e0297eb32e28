"""How often answers are right, beside what shows whether the sources were looked at: others' sources, and none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch

from ..core.text import shortened
from ..tokens.shards import TokenShards
from .collate import Collator
from .load import Mllm
from .rows import Row

CONTROLS = ("shuffled", "text")
"""The sources of another row, and no sources."""
ANSWER = 8
"""Tokens of an answer, at most."""


def answers(
    mllm: Mllm, rows: Sequence[Row], *, control: str | None = None, shards: TokenShards | None = None, batch: int = 16
) -> list[str]:
    """What the model says to each row. ``control`` "shuffled" shows each row the sources of another with sources of the
    same types, a fixed number of rows on; "text" shows none. Raises ``ValueError`` as the model does.
    """
    if control not in (None, *CONTROLS):
        raise ValueError(f"control is {shortened(control)!r}: give {' or '.join(CONTROLS)}")
    asked = shuffled(rows) if control == "shuffled" else [_bare(row) for row in rows] if control == "text" else rows
    collate = Collator(mllm.processor, shards)
    told: list[str] = []
    for start in range(0, len(asked), batch):
        told += _answered(mllm, collate, asked[start : start + batch])
    return told


def _answered(mllm: Mllm, collate: Collator, rows: Sequence[Row]) -> list[str]:
    inputs = collate([replace(row, answer="") for row in rows])
    del inputs["labels"]
    for name in ("input_ids", "attention_mask"):  # without the end that belongs to an empty answer
        inputs[name] = inputs[name][:, :-1]
    length = inputs["input_ids"].shape[1]
    device = mllm.model.device
    with torch.inference_mode():
        found = mllm.model.generate(
            **{name: tensor.to(device) for name, tensor in inputs.items()}, max_new_tokens=ANSWER, do_sample=False
        )
    texts = mllm.processor.tokenizer.batch_decode(found[:, length:], skip_special_tokens=True)
    return [text.strip() for text in texts]


def shuffled(rows: Sequence[Row]) -> list[Row]:
    """Each row with the sources of another, of the same types. Raises ``ValueError`` where there is no other."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(tuple(part["type"] for part in _sources(row)), []).append(number)
    others: dict[int, int] = {}
    for kinds, numbers in groups.items():
        if len(numbers) < 2:
            raise ValueError(f"a single row has sources {kinds}: there is none to take others from")
        step = max(len(numbers) // 3, 1)  # neighbours ask of one source
        others |= {number: numbers[(place + step) % len(numbers)] for place, number in enumerate(numbers)}
    return [_with(row, _sources(rows[others[number]])) for number, row in enumerate(rows)]


def _sources(row: Row) -> list[dict[str, Any]]:
    parts = [part for message in row.prompt if not isinstance(message["content"], str) for part in message["content"]]
    return [part for part in parts if part["type"] != "text"]


def _with(row: Row, sources: Sequence[dict[str, Any]]) -> Row:
    coming = iter(sources)

    def of(content: Any) -> Any:
        if isinstance(content, str):
            return content
        return [part if part["type"] == "text" else next(coming) for part in content]

    return replace(row, prompt=[{**message, "content": of(message["content"])} for message in row.prompt])


def _bare(row: Row) -> Row:
    def of(content: Any) -> Any:
        return content if isinstance(content, str) else [part for part in content if part["type"] == "text"]

    return replace(row, prompt=[{**message, "content": of(message["content"])} for message in row.prompt])


def accuracy(rows: Sequence[Row], told: Sequence[str]) -> dict[str, float]:
    """Share of right answers of each kind, and of "all": the same letters, whatever their case and a full stop."""
    right: dict[str, list[bool]] = {}
    for row, text in zip(rows, told, strict=True):
        well = _plain(text) == _plain(row.answer)
        for kind in {row.kind or "all", "all"}:
            right.setdefault(kind, []).append(well)
    return {kind: sum(each) / len(each) for kind, each in sorted(right.items())}


def majority(train: Iterable[Row], rows: Sequence[Row]) -> list[str]:
    """The most frequent answer to each row's kind in training: what needs no source."""
    counts: dict[str, Counter[str]] = {}
    for row in train:
        counts.setdefault(row.kind, Counter())[row.answer] += 1
    return [counts[row.kind].most_common(1)[0][0] if row.kind in counts else "" for row in rows]


def _plain(text: str) -> str:
    return text.strip().rstrip(".").lower()
