"""Classes that a recipe names as ``module:Class``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from .text import shortened


@dataclass(frozen=True)
class HookConfig:
    """A class of your own and what it is called with; its module must be installed or on PYTHONPATH."""

    name: str
    """``module:Class``."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the class."""

    def __post_init__(self) -> None:
        if not is_hook(self.name):
            raise ValueError(f"{shortened(self.name)!r} names no class: give module:Class")

    def runs_code(self) -> Iterator[str]:
        """What using it runs; a recipe with any of it needs permission."""
        yield f"{shortened(self.name)!r} would import a module"

    def build(self, *args: Any) -> Any:
        """Call the class with ``args`` and ``options``. Raises ``ValueError`` where it cannot be imported."""
        return load_hook(self.name)(*args, **self.options)


def is_hook(name: str) -> bool:
    """Whether ``name`` has the form ``module:Class``."""
    module, colon, attribute = name.partition(":")
    return bool(colon) and attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))


def load_hook(name: str) -> Any:
    """Import ``module:Class``, which runs the module's code. Raises ``ValueError`` where there is none."""
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name!r} cannot be imported ({error}): install its module or set PYTHONPATH") from error
