"""``atoken train``: the trainer with its log on the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import typer

from ..device import find_device
from ..training.config import read_config
from ..training.trainer import train
from . import paths
from .plan import show_plan
from .report import clean, say


class _ToStderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


@contextmanager
def _log_shown() -> Iterator[None]:
    logger, handler = logging.getLogger("atoken"), _ToStderr()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def train_model(recipes: Sequence[Path], out: Path | None, device: str | None, utilisation: float | None) -> None:
    """Train to the end of the recipe, or with a ``utilisation`` only say what all of them take.

    Raises ``ValueError`` or ``OSError`` with one sentence.
    """
    if find_spec("yaml") is None:
        raise ValueError("training recipes are YAML, which needs: pip install 'atoken[train]'")
    device = str(find_device(device, "--device"))
    if utilisation is not None:
        show_plan(recipes, utilisation)
        return
    if len(recipes) > 1 or out is None:
        raise ValueError("training takes one recipe and --out; several recipes go with --dry-run")
    recipe = read_config(recipes[0])
    paths.check_folder(out)
    with _log_shown():
        model = train(recipe, out, device)
    if model is not None:
        typer.echo(clean(f"{recipe.steps} steps of {recipe.model}, model in {out / 'model'}"))
