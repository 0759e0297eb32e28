"""The text tower that a model's embeddings are aligned with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from . import minilm

if TYPE_CHECKING:
    from ..pipeline.atoken import AToken
    from .lazy import LazyModel
    from .towers import TextTower


def tower_of(model: AToken | LazyModel) -> TextTower:
    """The text tower of ``model``. Raises ``ValueError`` for a model that was not trained with texts."""
    from .towers import text  # with torch, which the words of a search do without

    name = _name(model)
    tower = text(name, device=model.device)
    _check_width(model, tower.width)
    return tower


def embedder_of(model: AToken | LazyModel) -> Callable[[Sequence[str]], np.ndarray]:
    """What makes unit vectors fp32 [B, D] of a few texts for ``model``, without torch where the tower is MiniLM.

    Raises as ``tower_of``.
    """
    if _name(model) == minilm.NAME:
        _check_width(model, minilm.WIDTH)
        minilm.folder()
        return minilm.embeddings
    tower = tower_of(model)
    return lambda texts: tower(texts).numpy()


def _name(model: AToken | LazyModel) -> str:
    name = model.config.text_tower
    if name is None:
        raise ValueError(
            f"the model {model.config.name!r} is not aligned with texts (its config names no text_tower): "
            "it can neither classify nor search"
        )
    return name


def _check_width(model: AToken | LazyModel, width: int) -> None:
    config = model.config
    if width != (config.embed_dim or config.width):
        tower, wanted = config.text_tower, config.embed_dim or config.width
        raise ValueError(f"the text tower {tower!r} has {width} numbers and {config.name!r} {wanted}")
