"""AToken: images, videos and 3D assets as tokens in one sparse 4D space, and back."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import PRESETS, GaussianConfig, ModelConfig
    from .media.frames import Clip
    from .media.image import read_image, write_image
    from .media.video import open_video
    from .media.video_writer import write_video
    from .model.tokenizer import AToken
    from .render.gaussians import Gaussians
    from .token_file import TokenFile, TokenWriter
    from .tokens import Packed, Tokens
    from .understanding.towers import text
    from .weights.load import list_models, load

__version__ = "0.1.0"
__all__ = [
    "PRESETS",
    "AToken",
    "Clip",
    "GaussianConfig",
    "Gaussians",
    "ModelConfig",
    "Packed",
    "TokenFile",
    "TokenWriter",
    "Tokens",
    "list_models",
    "load",
    "open_video",
    "read_image",
    "text",
    "write_image",
    "write_video",
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
    "write_video": "media.video_writer",
    "open_video": "media.video",
    "TokenWriter": "token_file",
    "TokenFile": "token_file",
    "Clip": "media.frames",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import atoken`` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'atoken' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
