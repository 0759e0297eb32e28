"""A tokenizer with random weights, and a text tower of letters."""

import pytest
from generators import Tower, tokenizer

from atoken.generation import generator, train


@pytest.fixture(scope="module")
def model():
    return tokenizer()


@pytest.fixture
def letters(monkeypatch):
    """Text towers, whatever their name, give states of letters."""
    for module in (generator, train):
        monkeypatch.setattr(module, "text", Tower)
