"""The text tower that a model's embeddings are aligned with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .towers import TextTower, text

if TYPE_CHECKING:
    from ..pipeline.atoken import AToken
    from .lazy import LazyModel


def tower_of(model: AToken | LazyModel) -> TextTower:
    """The text tower of ``model``. Raises ``ValueError`` for a model that was not trained with texts."""
    name = model.config.text_tower
    if name is None:
        raise ValueError(
            f"the model {model.config.name!r} is not aligned with texts (its config names no text_tower): "
            "it can neither classify nor search"
        )
    tower = text(name, device=model.device)
    width = model.config.embed_dim or model.config.width
    if tower.width != width:
        raise ValueError(f"the text tower {name!r} has {tower.width} numbers and {model.config.name!r} {width}")
    return tower
