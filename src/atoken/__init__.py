"""AToken: images, videos and 3D assets as tokens in one sparse 4D space, and back."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import PRESETS, GaussianConfig, ModelConfig
    from .media.image import read_image, write_image
    from .model.tokenizer import AToken
    from .render.gaussians import Gaussians
    from .tokens import Packed, Tokens
    from .understanding.towers import text
    from .weights.load import list_models, load

__version__ = "0.1.0"
__all__ = [
    "PRESETS",
    "AToken",
    "GaussianConfig",
    "Gaussians",
    "ModelConfig",
    "Packed",
    "Tokens",
    "list_models",
    "load",
    "read_image",
    "text",
    "write_image",
]

_HOMES = {
    "PRESETS": "config",
    "ModelConfig": "config",
    "AToken": "model.tokenizer",
    "GaussianConfig": "config",
    "Gaussians": "render.gaussians",
    "Packed": "tokens",
    "Tokens": "tokens",
    "list_models": "weights.load",
    "load": "weights.load",
    "read_image": "media.image",
    "text": "understanding.towers",
    "write_image": "media.image",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import atoken`` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'atoken' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
