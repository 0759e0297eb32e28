"""A tiny model with random weights, pictures, and the command line called in this process."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_models import HEAD, Colours
from typer.testing import CliRunner, Result

from atoken import PRESETS, AToken, write_image
from atoken.cli import app, text_search

PROGRESS = re.compile(r"\[\d+/\d+\] |left out: ")


def save_tiny(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    AToken(PRESETS["tiny"]).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny", seed=0)


@pytest.fixture(scope="session")
def other(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "other", seed=1)


@pytest.fixture(scope="session")
def solid(tmp_path_factory) -> Path:
    """A tiny model with a Gaussian head, both random."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "solid"
    AToken(replace(PRESETS["tiny"], gaussians=HEAD)).save_pretrained(folder)
    return folder


@pytest.fixture
def aligned(tmp_path, monkeypatch) -> Path:
    """A tiny model that is aligned with ``Colours``."""
    torch.manual_seed(0)
    AToken(replace(PRESETS["tiny"], embed_dim=16, text_tower="colours")).save_pretrained(tmp_path / "model")
    for module in ("zero_shot", "evaluate_texts"):
        monkeypatch.setattr(f"atoken.cli.{module}.tower_of", Colours)
    monkeypatch.setattr(text_search, "embedder_of", lambda model: lambda texts: Colours(model)(texts).numpy())
    return tmp_path / "model"


@pytest.fixture
def atoken() -> Callable[..., Result]:
    """Run a command; an exception that it lets through fails the test with its traceback.

    The lines about each file (``[1/2] ...``) are taken out of ``stderr``, and are ``result.progress``.
    """

    def run(*arguments: object) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
        lines = result.stderr.splitlines(keepends=True)
        result.progress = [line for line in lines if PROGRESS.match(line)]
        result.stderr_bytes = "".join(line for line in lines if not PROGRESS.match(line)).encode()
        return result

    return run


@pytest.fixture
def picture() -> Callable[..., Path]:
    """Write a picture of noise, the same for the same name."""

    def write(path: Path, height: int = 20, width: int = 33) -> Path:
        rng = np.random.default_rng(len(path.name))
        write_image(path, rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        return path

    return write


@pytest.fixture(autouse=True)
def working_folder(tmp_path_factory, monkeypatch) -> Path:
    """An empty current folder of its own, so that a default ``--out`` never lands in the repository."""
    folder = tmp_path_factory.mktemp("cwd")
    monkeypatch.chdir(folder)
    return folder
