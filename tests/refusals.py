"""How tests look at messages: by what they must name (the file, the value, the remedy), not word by word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

LONGEST = 600
"""Characters of one sentence: a foreign value quoted whole is longer."""


@contextmanager
def refused(*named: object, error: type[Exception] | tuple[type[Exception], ...] = ValueError) -> Iterator[Any]:
    """The block raises ``error``, in one sentence that names each of ``named`` (upper or lower case)."""
    with pytest.raises(error) as caught:
        yield caught
    check_names(str(caught.value), *named)


def check_names(sentence: str, *named: object) -> None:
    """One line of bounded length that holds each of ``named``, upper or lower case."""
    assert sentence.strip(), "no message"
    assert "\n" not in sentence.strip(), sentence
    assert len(sentence) < LONGEST, sentence
    for name in named:
        assert str(name).lower() in sentence.lower(), f"{name!r} is not named in: {sentence}"
