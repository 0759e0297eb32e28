"""``atoken ask``: questions about files, answered by a language model that looks through the encoder."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..core.text import clean
from . import options
from .report import say, sentence

if TYPE_CHECKING:
    from ..mllm.load import Chat


@dataclass(frozen=True)
class Question:
    """What ``atoken ask`` was asked. Raises ``ValueError`` for a value that cannot be."""

    words: tuple[str, ...]
    """Files, and last the question; with ``chat`` files alone."""
    model: Path | None
    tokenizer: str | None
    language_model: str | None
    chat: bool
    tokens: int
    device: str | None

    def __post_init__(self) -> None:
        if self.model is None:
            raise ValueError(
                "no model that answers comes with the package yet: name the folder of a trained one with --model"
            )
        if not self.chat and len(self.words) < 2:
            raise ValueError('give files and a question: atoken ask photo.jpg "what colour is the car?"')
        if not self.chat and Path(self.words[-1]).exists():
            raise ValueError(
                f"the last of the words is the question, and {self.words[-1]!r} is a file: --chat has none"
            )
        options.check_positive("--tokens", self.tokens)
        options.check_device(self.device)

    @property
    def files(self) -> list[str]:
        """What is looked at."""
        return list(self.words if self.chat else self.words[:-1])


def ask(question: Question, lines: Iterable[str] | None = None) -> None:
    """Answer one question, or with ``chat`` those that ``lines`` (standard input) hold, until they end.

    Raises ``ValueError`` or ``OSError`` with one sentence; in a dialogue what is wrong with a line is said instead.
    """
    for name in question.files:
        if not Path(name).exists():
            raise FileNotFoundError(f"there is no file {name}")
    for package in ("transformers", "peft"):
        if find_spec(package) is None:
            raise ValueError("language models need: pip install 'atoken[mllm]'")
    from transformers.utils import logging

    from ..mllm.load import load_mllm

    logging.disable_progress_bar()
    assert question.model is not None
    mllm = load_mllm(
        question.model,
        tokenizer=question.tokenizer,
        language_model=question.language_model,
        device=question.device,
    )
    chat = mllm.chat()
    if not question.chat:
        _answer(chat, question.words[-1], question.files, question.tokens)
        return
    files = question.files
    say(f"{len(files)} files to talk about; an empty line ends the dialogue")
    for line in sys.stdin if lines is None else lines:
        if not line.strip():
            return
        try:
            _answer(chat, line.strip(), files, question.tokens)
            files = []
        except (ValueError, OSError) as error:
            say(f"error: {sentence(error)}")


def _answer(chat: Chat, text: str, files: list[str], tokens: int) -> None:
    """Print the answer while it comes."""

    def show(part: str) -> None:
        typer.echo("\n".join(map(clean, part.split("\n"))), nl=False)

    chat.say(text, files, max_new_tokens=tokens, on_text=show)
    typer.echo("")
