"""Import paths that earlier docs named and that have moved. They keep working for one release, with a warning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULES = {
    "atoken.evaluation.readers": "atoken.evaluation.datasets",
    "atoken.media.opener": "atoken.media.image.opener",
    "atoken.render.cameras": "atoken.media.views.cameras",
    "atoken.render.rasterize": "atoken.gaussians.raster.rasterize",
    "atoken.training.config": "atoken.train.config",
    "atoken.training.synthetic_video": "atoken.data.synthetic_video",
    "atoken.understanding.chance": "atoken.language.chance",
    "atoken.understanding.zero_shot": "atoken.language.zero_shot",
}
"""Modules by their former names."""
NAMES = {
    "atoken.media.image": {"read_rgba": "atoken.media.image.files"},
    "atoken.media.views": {"render_views": "atoken.media.views.views"},
    "atoken.tokens": {"dense_coords": "atoken.nn.packed"},
}
"""Names that stood in what is a package of that name now."""


def from_its_home(module: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module in ``MODULES`` or ``NAMES``."""

    def get(name: str) -> Any:
        home = MODULES.get(module) or NAMES[module].get(name)
        if home is None or name.startswith("__"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        value = getattr(import_module(home), name)
        warnings.warn(f"{module}.{name} has moved to {home}.{name}", DeprecationWarning, stacklevel=2)
        return value

    return get


class _Finder(MetaPathFinder, Loader):
    """Finds the modules of ``MODULES``, and the packages around them that are no more."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if not any(f"{old}.".startswith(f"{name}.") for old in MODULES):
            return None
        return ModuleSpec(name, self, is_package=name not in MODULES)

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ in MODULES:
            vars(module)["__getattr__"] = from_its_home(module.__name__)


def install() -> None:
    """Let the import system find the modules by their former names, after it has found nothing else."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
