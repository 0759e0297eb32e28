"""The door to the library transformers, which only some networks need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def transformers_class(name: str) -> Any:
    """A class of transformers by its name. Raises ``ValueError`` where the library is missing."""
    try:
        import transformers
    except ImportError:
        raise ValueError("CLIP and SigLIP towers need transformers: pip install 'atoken[hub]'") from None
    return getattr(transformers, name)


def read_config(source: str | Path, what: str) -> Any:
    """The config of a model folder or ``owner/name`` on the hub. Raises ``FileNotFoundError`` where there is none."""
    auto = transformers_class("AutoConfig")
    try:
        return auto.from_pretrained(source)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FileNotFoundError(f"no {what} at {source}: {reason}") from None


def pretrained(name: str, source: str | Path, what: str, **options: Any) -> Any:
    """An object of that class from a folder or the hub. Raises ``FileNotFoundError`` where a file is missing."""
    cls = transformers_class(name)
    try:
        with quiet():
            return cls.from_pretrained(source, **options)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FileNotFoundError(f"no {what} at {source}: {reason}") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Without the report that the other side of a model was left out, which is what is wanted."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
