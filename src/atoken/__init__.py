"""AToken: images, videos and 3D assets as tokens in one sparse 4D space, and back."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .core import moved

if TYPE_CHECKING:
    from .gaussians.types import Gaussians
    from .generation.load import load_generator
    from .language.towers import text
    from .media.image.files import read_image, write_image
    from .media.video.frames import Clip
    from .media.video.source import open_video
    from .media.video.writer import write_video
    from .mllm.load import load_mllm
    from .nn.packed import Packed
    from .pipeline.atoken import AToken
    from .tokenizer.config import PRESETS, GaussianConfig, ModelConfig
    from .tokens.samples import TokenSample
    from .tokens.shards import ShardWriter, TokenShard, TokenShards
    from .tokens.stream import TokenFile, TokenWriter
    from .tokens.tokens import Tokens
    from .weights.config import list_generators, list_models
    from .weights.load import load

moved.install()

__version__ = "0.1.0"
__all__ = [
    "PRESETS",
    "AToken",
    "Clip",
    "GaussianConfig",
    "Gaussians",
    "ModelConfig",
    "Packed",
    "ShardWriter",
    "TokenFile",
    "TokenSample",
    "TokenShard",
    "TokenShards",
    "TokenWriter",
    "Tokens",
    "list_generators",
    "list_models",
    "load",
    "load_generator",
    "load_mllm",
    "open_video",
    "read_image",
    "text",
    "write_image",
    "write_video",
]

_HOMES = {
    "AToken": "pipeline.atoken",
    "Clip": "media.video.frames",
    "GaussianConfig": "tokenizer.config",
    "Gaussians": "gaussians.types",
    "ModelConfig": "tokenizer.config",
    "PRESETS": "tokenizer.config",
    "Packed": "nn.packed",
    "ShardWriter": "tokens.shards",
    "TokenFile": "tokens.stream",
    "TokenSample": "tokens.samples",
    "TokenShard": "tokens.shards",
    "TokenShards": "tokens.shards",
    "TokenWriter": "tokens.stream",
    "Tokens": "tokens.tokens",
    "list_generators": "weights.config",
    "list_models": "weights.config",
    "load": "weights.load",
    "load_generator": "generation.load",
    "load_mllm": "mllm.load",
    "open_video": "media.video.source",
    "read_image": "media.image.files",
    "text": "language.towers",
    "write_image": "media.image.files",
    "write_video": "media.video.writer",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import atoken`` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'atoken' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
