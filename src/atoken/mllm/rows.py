"""Rows of training and evaluation data: questions with their sources, as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import ReadError
from ..core.text import shortened


@dataclass(frozen=True)
class Row:
    """One question and its answer; ``where`` names its line for messages."""

    where: str
    prompt: list[dict[str, Any]]
    """Messages as transformers has them. A source is a part with a ``path``, or with the ``key`` of a stored sample."""
    answer: str
    kind: str = ""
    """What is asked for, such as "count"."""


def read_rows(path: str | Path) -> Iterator[Row]:
    """The rows of a file, one JSON object a line: ``prompt`` (messages), ``completion`` (one message of the assistant),
    ``kind`` (may be left out). Paths count from the file's folder.

    Raises ``ReadError`` that names the line, and ``FileNotFoundError``.
    """
    path = Path(path)
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            yield row_of(line, f"{path}, line {number}", path.parent)


def row_of(line: str, where: str, folder: Path) -> Row:
    """One row. Raises ``ReadError`` that begins with ``where``."""
    try:
        values = json.loads(line)
        prompt, (completion,) = values["prompt"], values["completion"]
        answer, kind = completion["content"], values.get("kind", "")
        if completion["role"] != "assistant" or not isinstance(answer, str) or not isinstance(kind, str):
            raise ValueError("the completion is not one message of the assistant with text")
        for message in prompt:
            for part in () if isinstance(message["content"], str) else message["content"]:
                if part["type"] != "text" and "path" in part:
                    part["path"] = str(folder / part["path"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ReadError(f"{where} is no row of prompt and completion ({shortened(error)})") from None
    return Row(where, prompt, answer, kind)
