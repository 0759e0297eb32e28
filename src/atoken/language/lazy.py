"""A model whose weights, and torch, are read when something is embedded: a search over a complete index needs none."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..core.hashing import file_hash
from ..tokenizer.config import ModelConfig
from ..weights.config import CONFIG, SHIPPED, WEIGHTS, list_models, read_config

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..pipeline.atoken import AToken


class LazyModel:
    """What text towers and indexes ask of a model: ``config`` and ``identity`` at once, ``embed`` with its weights.

    ``source`` is what ``atoken.load`` takes; only shipped models and model folders are lazy. Raises what ``load`` does.
    """

    def __init__(self, source: str, device: str | None = None) -> None:
        self.source, self._device = source, device
        self.is_shipped = source in list_models()
        folder = SHIPPED / source if self.is_shipped else Path(source)
        if (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file():
            self.config: ModelConfig = read_config(folder)
            parts = [file_hash(folder / CONFIG), file_hash(folder / WEIGHTS)]
        else:
            self.config = self.loaded.config
            parts = [repr(self.config), self.loaded.weights_hash]
        self.identity = hashlib.sha256(" ".join([__version__, *parts]).encode()).hexdigest()
        """SHA-256 of the release, config and weights: of all that an embedding depends on."""

    @cached_property
    def device(self) -> torch.device:
        """Where the model and a text tower compute."""
        from ..core.device import find_device  # with torch

        return find_device(self._device, "--device")

    @cached_property
    def loaded(self) -> AToken:
        """The whole model."""
        from ..weights.load import load  # with torch

        return load(self.source, device=self.device)

    def embed(self, sources: Sequence[object]) -> Tensor:
        """Embeddings fp32 [B, D] of unit length of a list of sources, as of ``AToken.embed``."""
        return self.loaded.embed(sources)
