"""All kinds of input that are fuzzed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import media_kinds as media
import other_kinds as other
import token_kinds as more
from mutate import Files, Rng, of_files


def _never(sound: Files, changed: Files) -> bool:
    return False


@dataclass(frozen=True)
class Kind:
    """A kind of input."""

    count: int
    """Files that a full run tries."""
    share: float
    """Of the time of a run that is bounded by time."""
    seeds: Callable[[Path], list[Files]]
    """Sound files, made in an empty folder."""
    change: Callable[[Files, Files, Rng], Files]
    """Another file from a sound one, with a second one to take pieces from."""
    read: Callable[[Path], object]
    must_refuse: Callable[[Files, Files], bool] = _never
    """Whether accepting the changed file is a failure."""


KINDS: dict[str, Kind] = {
    "tokens": Kind(200_000, 0.25, media.token_seeds, media.change_tokens, media.read_tokens, media.unsealed),
    "pictures": Kind(50_000, 0.2, media.picture_seeds, of_files, media.read_picture),
    "solids": Kind(20_000, 0.15, media.solid_seeds, media.change_solid, media.read_solid),
    "clips": Kind(5_000, 0.15, media.clip_seeds, of_files, media.read_clip),
    "posed": Kind(3_000, 0.04, other.posed_seeds, other.change_posed, other.read_posed),
    "packed": Kind(3_000, 0.04, other.packed_seeds, other.change_packed, other.read_packed),
    "shards": Kind(1_000, 0.04, other.shard_seeds, of_files, other.read_shard),
    "recipes": Kind(2_500, 0.04, other.recipe_seeds, of_files, other.read_recipe),
    "models": Kind(500, 0.04, other.model_seeds, other.change_model, other.read_model),
    "atoks": Kind(5_000, 0.04, more.atoks_seeds, more.change_atoks, more.read_atoks),
    "exports": Kind(2_000, 0.04, more.atoks_seeds, more.change_atoks, more.read_export),
    "sources": Kind(2_000, 0.04, more.source_seeds, of_files, more.read_source),
    "generators": Kind(1_000, 0.04, more.generator_seeds, more.change_generator, more.read_generator),
}
