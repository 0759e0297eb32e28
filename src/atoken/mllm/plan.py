"""What a training of the language model costs, and whether its data is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..core.text import shortened
from ..tokenizer.config import PRESETS, ModelConfig
from ..train.plan import Plan
from .recipe import MllmRecipe, StageConfig
from .rows import read_rows


class LanguageSize(NamedTuple):
    """Architecture of a language model of Llama's kind."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    mlp: int
    vocabulary: int
    tied: bool

    @property
    def block_parameters(self) -> int:
        """Of all blocks."""
        attention = 2 * self.width * self.width + 2 * self.width * self.width * self.kv_heads // self.heads
        return self.layers * (attention + 3 * self.width * self.mlp)

    @property
    def parameters(self) -> int:
        """Of the whole model but its norms."""
        return self.block_parameters + (1 if self.tied else 2) * self.vocabulary * self.width


SIZES = {
    "smollm2-135m": LanguageSize(576, 30, 9, 3, 1536, 49152, True),
    "Qwen/Qwen2.5-0.5B-Instruct": LanguageSize(896, 24, 14, 2, 4864, 151936, True),
    "Qwen/Qwen2.5-1.5B-Instruct": LanguageSize(1536, 28, 12, 2, 8960, 151936, True),
    "Qwen/Qwen2.5-3B-Instruct": LanguageSize(2048, 36, 16, 2, 11008, 151936, True),
    "Qwen/Qwen2.5-7B-Instruct": LanguageSize(3584, 28, 28, 4, 18944, 152064, False),
}
"""From their published configs."""


def language_size(name: str) -> LanguageSize:
    """Of a language model in ``SIZES``, or of the folder's config. Raises ``ValueError`` for any other."""
    if name in SIZES:
        return SIZES[name]
    path = Path(name) / "config.json"
    keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size")
    try:
        values = json.loads(path.read_text("utf-8"))
        width, layers, heads, kv_heads, mlp, vocabulary = (int(values[key]) for key in (*keys, "vocab_size"))
        return LanguageSize(width, layers, heads, kv_heads, mlp, vocabulary, bool(values.get("tie_word_embeddings")))
    except (OSError, KeyError, TypeError, ValueError):
        raise ValueError(
            f"the size of {shortened(name)!r} is not known: give a folder with its config.json, or {', '.join(SIZES)}"
        ) from None


def plan(recipe: MllmRecipe) -> Plan:
    """The cost of a run on ``recipe.ranks`` ranks, from its recipe alone, averaged over the steps of all stages."""
    language, tower = language_size(recipe.language_model), PRESETS[recipe.size]
    tokens = flops = largest = state = 0.0
    for stage in recipe.stages:
        share = stage.steps / recipe.steps
        rows = stage.batch * stage.accumulate * recipe.ranks
        tokens += share * rows * stage.tokens
        flops += share * rows * (_language_flops(language, stage) + _tower_flops(tower, stage.patches))
        largest = max(largest, _activation_bytes(language, stage, recipe.checkpointing))
        state = max(state, _state_bytes(language, tower, stage))
    return Plan(language.parameters + _tower_parameters(tower), tokens, flops, int(state), largest)


def _language_flops(size: LanguageSize, stage: StageConfig) -> float:
    """Two operations a multiplication; backward once for activations, and once more where the matrices learn."""
    matrices = 2.0 * stage.tokens * size.block_parameters
    attention = size.layers * 2.0 * stage.tokens**2 * size.width  # half of the pairs, scores and sums
    return (3 if stage.learns == "all" else 2) * matrices + 3 * attention


def _tower_parameters(tower: ModelConfig) -> int:
    return tower.encoder_depth * (4 * tower.width**2 + 2 * tower.width * tower.mlp_width)


def _tower_flops(tower: ModelConfig, patches: int) -> float:
    return 2.0 * patches * _tower_parameters(tower) + tower.encoder_depth * 4.0 * patches * 256 * tower.width


def _activation_bytes(size: LanguageSize, stage: StageConfig, checkpointing: bool) -> float:
    """bf16: the input of each block, and of the blocks that are kept some 16 widths and 3 MLP widths more."""
    kept = 1 if checkpointing else size.layers
    once = stage.batch * stage.tokens * 2.0
    return once * (size.layers * size.width + kept * (16 * size.width + 3 * size.mlp))


def _state_bytes(size: LanguageSize, tower: ModelConfig, stage: StageConfig) -> float:
    """fp32 weights; of those that learn the gradient and two moments, too."""
    rank = stage.rank * size.layers * (6 * size.width + 2 * size.width + 3 * (size.width + size.mlp))
    learns = {"projector": 0, "lora": rank, "all": size.parameters}[stage.learns]
    projector = size.width * (tower.width + size.width)
    return 4.0 * (size.parameters + _tower_parameters(tower)) + 16.0 * (learns + projector)


def check_data(recipe: MllmRecipe) -> Iterator[tuple[str, str, bool]]:
    """For each stage how many rows it has, or what is missing: (stage, sentence, whether it is well)."""
    for stage in recipe.stages:
        try:
            count = sum(1 for path in stage.data for _ in read_rows(path))
            yield stage.stage, f"{count} rows, {stage.steps} steps of {stage.batch * stage.accumulate}", True
        except (ValueError, OSError) as error:
            yield stage.stage, str(error), False
