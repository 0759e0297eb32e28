"""A model whose weights are read when something is embedded, so that a search over a complete index needs none."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from .. import __version__
from ..backbones.network import file_hash
from ..core.device import find_device
from ..tokenizer.config import ModelConfig
from ..weights.files import CONFIG, WEIGHTS, read_config
from ..weights.load import SHIPPED, list_models, load

if TYPE_CHECKING:
    from ..pipeline.atoken import AToken


class LazyModel:
    """What text towers and indexes ask of a model: ``config`` and ``identity`` at once, ``embed`` with its weights.

    ``source`` is what ``atoken.load`` takes; only shipped models and model folders are lazy. Raises what ``load`` does.
    """

    def __init__(self, source: str, device: str | None = None) -> None:
        self.source, self.device = source, find_device(device, "--device")
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
    def loaded(self) -> AToken:
        """The whole model."""
        return load(self.source, device=self.device)

    def embed(self, sources: Sequence[object]) -> Tensor:
        """Embeddings fp32 [B, D] of unit length of a list of sources, as of ``AToken.embed``."""
        return self.loaded.embed(sources)
