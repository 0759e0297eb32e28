"""Which models ship, and config.json of a model directory. Needs no torch, as a search over a complete index does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..core.errors import ReadError, reading
from ..core.files import atomic_write
from ..core.mapping import from_mapping
from ..core.regular import read_regular
from ..tokenizer.config import ModelConfig
from ..tokenizer.latent_stats import ChannelStats

CONFIG, WEIGHTS = "config.json", "model.safetensors"
LATENT_STATS = "latent_stats"
"""Key of config.json beside those of ``ModelConfig``."""
SHIPPED = Path(__file__).parent
GENERATORS = SHIPPED / "generators"
"""Folders of generators that come with the package: each is one that ``save_pretrained`` wrote."""


def list_models() -> list[str]:
    """Names of the models whose weights come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{WEIGHTS}"))


def list_generators() -> list[str]:
    """Names of the generators whose weights come with the package."""
    return sorted(path.parent.name for path in GENERATORS.glob(f"*/{WEIGHTS}"))


def write_config(path: Path, values: dict[str, Any]) -> None:
    """Write plain values as JSON, atomically. Raises ``OSError``."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n")


def read_config(directory: Path) -> ModelConfig:
    """Config of a model directory. Raises ``ReadError`` with one sentence."""
    return _read_config(directory)[0]


def read_latent_stats(directory: Path) -> ChannelStats | None:
    """What config.json of a model directory says of the latents, if anything. Raises ``ReadError``."""
    return _read_config(directory)[1]


def _read_config(directory: Path) -> tuple[ModelConfig, ChannelStats | None]:
    path = directory / CONFIG
    with reading(path):
        values: Any = json.loads(read_regular(path))
    found = values.pop(LATENT_STATS, None) if isinstance(values, dict) else None
    try:
        config = ModelConfig.from_dict(values)
        stats = None if found is None else from_mapping(ChannelStats, found, LATENT_STATS)
        if stats is not None and len(stats.mean) != config.latent_channels:
            raise ValueError(f"{LATENT_STATS} are of {len(stats.mean)} channels, not of {config.latent_channels}")
    except ValueError as error:
        raise ReadError(f"{path}: {error}") from None
    return config, stats
