"""Recipes of any kind: the tokenizer's training, a generator's, which says ``generator``, or a language model's, which
says ``language_model``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..core.errors import ReadError
from ..core.text import shortened
from ..engine.protocol import TrainSpec
from ..engine.recipe import read_recipe, read_values
from ..generation import plan as generator
from ..generation.flow.recipe import FlowRecipe
from ..generation.flow.train import FlowSpec
from ..generation.masked.recipe import MaskedRecipe
from ..generation.masked.train import MaskedSpec
from ..generation.recipe import GeneratorRecipe
from ..generation.train import GeneratorSpec
from ..mllm import plan as language
from ..mllm.recipe import MllmRecipe
from ..train import plan as tokenizer
from ..train.config import TrainConfig
from ..train.trainer import TokenizerSpec

EngineRecipe = TrainConfig | GeneratorRecipe
"""What the engine runs."""
Recipe = EngineRecipe | MllmRecipe
GENERATORS: dict[type[GeneratorRecipe], type[GeneratorSpec]] = {FlowRecipe: FlowSpec, MaskedRecipe: MaskedSpec}


def read_any(path: Path, *, allow_commands: bool = False) -> Recipe:
    """Read a recipe; raises as ``engine.recipe.read_recipe``."""
    values = read_values(path)
    if isinstance(values, dict) and "generator" in values:
        kinds = {kind.kind: kind for kind in GENERATORS}
        if (kind := str(values["generator"])) not in kinds:
            raise ReadError(f"{path}: generator is {shortened(kind)!r}: give {' or '.join(kinds)}")
        return read_recipe(kinds[kind], path, values, allow_commands=allow_commands)
    if isinstance(values, dict) and "language_model" in values:
        return read_recipe(MllmRecipe, path, values, allow_commands=allow_commands)
    return read_recipe(TrainConfig, path, values, allow_commands=allow_commands)


def spec_of(recipe: EngineRecipe) -> TrainSpec:
    """What the engine runs."""
    return GENERATORS[type(recipe)](recipe) if isinstance(recipe, GeneratorRecipe) else TokenizerSpec(recipe)


def name_of(recipe: Recipe) -> str:
    """What is trained."""
    return recipe.model if isinstance(recipe, TrainConfig) else recipe.name


def plan(recipe: Recipe) -> tokenizer.Plan:
    """What a run costs, from its recipe alone."""
    if isinstance(recipe, MllmRecipe):
        return language.plan(recipe)
    return generator.plan(recipe) if isinstance(recipe, GeneratorRecipe) else tokenizer.plan(recipe)


def check_data(recipe: Recipe) -> Iterator[tuple[str, str, bool]]:
    """For each task what its first batch holds, or what is missing: (task, sentence, whether it is well)."""
    if isinstance(recipe, MllmRecipe):
        return language.check_data(recipe)
    if isinstance(recipe, GeneratorRecipe):
        return generator.check_data(GENERATORS[type(recipe)](recipe))
    return tokenizer.check_data(recipe)
