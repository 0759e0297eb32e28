"""Recipes of any kind: the tokenizer's training, or a generator's, which says ``generator``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..engine.protocol import TrainSpec
from ..engine.recipe import read_recipe, read_values
from ..generation.flow import flops
from ..generation.flow.recipe import FlowRecipe
from ..generation.flow.train import FlowSpec
from ..train import plan as tokenizer
from ..train.config import TrainConfig
from ..train.trainer import TokenizerSpec

Recipe = TrainConfig | FlowRecipe


def read_any(path: Path, *, allow_commands: bool = False) -> Recipe:
    """Read a recipe; raises as ``engine.recipe.read_recipe``."""
    values = read_values(path)
    if isinstance(values, dict) and "generator" in values:
        return read_recipe(FlowRecipe, path, values, allow_commands=allow_commands)
    return read_recipe(TrainConfig, path, values, allow_commands=allow_commands)


def spec_of(recipe: Recipe) -> TrainSpec:
    """What the engine runs."""
    return FlowSpec(recipe) if isinstance(recipe, FlowRecipe) else TokenizerSpec(recipe)


def name_of(recipe: Recipe) -> str:
    """What is trained."""
    return recipe.name if isinstance(recipe, FlowRecipe) else recipe.model


def plan(recipe: Recipe) -> tokenizer.Plan:
    """What a run costs, from its recipe alone."""
    return flops.plan(recipe) if isinstance(recipe, FlowRecipe) else tokenizer.plan(recipe)


def check_data(recipe: Recipe) -> Iterator[tuple[str, str, bool]]:
    """For each task what its first batch holds, or what is missing: (task, sentence, whether it is well)."""
    return flops.check_data(recipe) if isinstance(recipe, FlowRecipe) else tokenizer.check_data(recipe)
