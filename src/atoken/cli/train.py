"""``atoken train``: the trainer with its log on the terminal."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import typer

from ..core.device import find_device
from ..engine.loop import run
from ..engine.malloc import disable_trim
from ..engine.ranks import EndedByOthers
from ..mllm.recipe import MllmRecipe
from . import paths
from .plan import show_plan
from .recipes import name_of, read_any, spec_of
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


def train_model(
    recipes: Sequence[Path],
    out: Path | None,
    device: str | None,
    utilisation: float | None,
    cost_only: bool = False,
    allow_commands: bool = False,
) -> None:
    """Train to the end of the recipe, or with a ``utilisation`` only say what all of them take.

    Raises ``ValueError`` or ``OSError`` with one sentence; among several ranks one of each machine does.
    """
    try:
        if cost_only and utilisation is None:
            raise ValueError("--cost-only is for --dry-run")
        if find_spec("yaml") is None:
            raise ValueError("training recipes are YAML, which needs: pip install 'atoken[train]'")
        device = str(find_device(device, "--device"))
        if utilisation is not None:
            show_plan(recipes, utilisation, device, cost_only, allow_commands)
            return
        if len(recipes) > 1 or out is None:
            raise ValueError("training takes one recipe and --out; several recipes go with --dry-run")
        recipe = read_any(recipes[0], allow_commands=allow_commands)
        paths.check_folder(out)
    except (ValueError, OSError):
        if os.environ.get("LOCAL_RANK", "0") != "0":  # its neighbour says the same
            raise typer.Exit(2) from None
        raise
    if isinstance(recipe, MllmRecipe):
        for package in ("transformers", "trl", "peft"):
            if find_spec(package) is None:
                raise ValueError("language models are trained with: pip install 'atoken[mllm]'")
        from ..mllm.train import run as run_language_model

        typer.echo(clean(f"{recipe.steps} steps of {recipe.name}, model in {run_language_model(recipe, out, device)}"))
        return
    disable_trim()
    try:
        with _log_shown():
            model = run(spec_of(recipe), out, device)
    except EndedByOthers:
        raise typer.Exit(2) from None
    except (ValueError, OSError) as error:
        _tell_torchrun(str(error))
        raise
    if model is not None:
        steps = f"{recipe.steps} steps" if recipe.steps else f"{recipe.minutes:g} minutes"
        typer.echo(clean(f"{steps} of {name_of(recipe)}, model in {out / 'model'}"))


def _tell_torchrun(sentence: str) -> None:
    """Let torchrun end its own report with the error, where it asks for one."""
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        told = {"message": sentence, "extraInfo": {"py_callstack": sentence, "timestamp": str(int(time.time()))}}
        Path(path).write_text(json.dumps({"message": told}))
