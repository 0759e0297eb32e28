"""Recipes: a training run as YAML, read into any dataclass; an unknown key or a wrong type raises."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import ReadError, reading
from ..core.mapping import from_mapping
from ..core.regular import read_regular
from ..core.text import shortened

Config = TypeVar("Config")

MOST_BYTES = 1 << 20
"""Of a recipe: PyYAML takes some ten seconds for as much."""


def read_values(path: Path) -> Any:
    """The plain values of a YAML file. Raises ``FileNotFoundError``, or ``ReadError`` that names the file."""
    if path.stat().st_size > MOST_BYTES:
        raise ReadError(f"{path} has {path.stat().st_size / 1e6:.1f} MB, which no recipe needs: give a YAML file")
    with reading(path, "mend or replace it"):
        return _parsed(path)


def read_recipe(cls: type[Config], path: Path, values: Any = None, *, allow_commands: bool = False) -> Config:
    """Read a YAML file, or what ``read_values`` has read of it, as the frozen dataclass ``cls`` (needs the extra
    ``train``).

    Raises ``FileNotFoundError``, or ``ValueError`` in one sentence that names the file, and the key where it is about
    one; also where the recipe would run a program or import a module, unless ``allow_commands``: a recipe from
    elsewhere runs nothing. Parts of ``cls`` that run something say so in a method ``runs_code``.
    """
    values = read_values(path) if values is None else values
    try:
        config = from_mapping(cls, values, where=str(path))
    except (ValueError, TypeError, RecursionError) as error:
        reason = str(error).removeprefix("train config: ")
        raise ReadError(reason if str(path) in reason else f"{path}: {shortened(reason, 400)}") from error
    if not allow_commands and (found := next(runs_code(config), None)):
        raise ReadError(f"{path}: {found}: where you trust the recipe, say --allow-commands")
    return config


def runs_code(config: Any) -> Iterator[str]:
    """What the parts of a recipe run besides this package, each as the first half of a sentence."""
    if isinstance(config, tuple):
        for part in config:
            yield from runs_code(part)
    elif dataclasses.is_dataclass(config):
        if hasattr(config, "runs_code"):
            yield from config.runs_code()
        for field in dataclasses.fields(config):
            yield from runs_code(getattr(config, field.name))


def _parsed(path: Path) -> Any:
    """The values of a YAML file. Raises ``ReadError``, and whatever PyYAML does."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Takes 3e-4 for a number, as YAML 1.2 does, and a key given twice for a mistake."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            if not isinstance(node, yaml.MappingNode):
                raise yaml.constructor.ConstructorError(None, None, "expected a table of keys", node.start_mark)
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if "<<" in keys:  # a few lines of them become millions of keys
                raise yaml.constructor.ConstructorError(None, None, "keys cannot be merged with <<", node.start_mark)
            if twice := [key for key, count in Counter(keys).items() if count > 1]:
                raise yaml.constructor.ConstructorError(None, None, f"key {twice[0]!r} is given twice", node.start_mark)
            return super().construct_mapping(node, deep)

    number = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    try:
        return yaml.load(read_regular(path).decode("utf-8-sig"), Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ReadError(f"{path} is not YAML: {shortened(error, 400)}") from error
