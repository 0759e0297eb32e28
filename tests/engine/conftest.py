"""The tokenizer's small run, on which some parts are tried."""

from train.conftest import config  # noqa: F401
