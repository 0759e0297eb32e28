"""Options declared as the fields of a dataclass."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from atoken.cli.groups import grouped
from atoken.cli.settings import DecodeSettings, EncodeSettings, ReconstructSettings

Depth = Annotated[int, typer.Option("--deep", help="How deep.")]


@dataclass(frozen=True)
class Pond:
    fish: Annotated[str, typer.Option(help="Which fish.")]
    depth: Depth = 3


@pytest.fixture
def swim():
    app, seen = typer.Typer(), []

    @app.command()
    @grouped
    def swim(names: list[str], pond: Pond, fast: bool = False) -> None:
        seen.append((names, pond, fast))

    return lambda *arguments: (CliRunner().invoke(app, arguments).exit_code, seen)


def test_fields_are_options(swim):
    assert swim("a", "b", "--fish", "pike", "--fast") == (0, [(["a", "b"], Pond("pike"), True)])
    assert swim("c", "--fish", "carp", "--deep", "9")[1][1] == (["c"], Pond("carp", 9), False)


def test_a_field_without_a_default_is_needed(swim):
    assert swim("a") == (2, [])


def test_models_by_default():
    """A diamond of dataclasses takes its fields from the last of them."""
    assert EncodeSettings().model == ReconstructSettings().model == "nano"
    assert DecodeSettings().model is None
