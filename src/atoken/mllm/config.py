"""Config of the language model with its frozen tower, as transformers keeps it."""

from __future__ import annotations

import dataclasses
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from ..tokenizer.config import ModelConfig
from ..tokenizer.net import TokenEncoder
from .layout import LayoutConfig
from .sources import Reader

MODEL_TYPE = "atoken_mllm"


@strict
class AtokenMllmConfig(PreTrainedConfig):
    """A causal language model, the tower that it looks through, and how sources are laid out in the prompt.

    ``tower`` has the tokenizer's ``name``, its ``config`` (``ModelConfig.to_dict()``), the hash of its ``weights``,
    which stored tokens name, and that of its ``encoder`` alone. ``layout`` holds the fields of ``LayoutConfig``.
    ``inputs`` is "hidden", "latents" or "codes"; ``layer`` takes hidden states after so many blocks, not after the
    final norm.
    """

    model_type = MODEL_TYPE
    sub_configs_defaults = {"text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama")}  # noqa: RUF012

    text_config: Any = None
    tower: dict | None = None
    layout: dict | None = None
    inputs: str = "hidden"
    layer: int | None = None
    image_token_id: int = 0
    tie_word_embeddings: bool = False

    @property
    def tower_config(self) -> ModelConfig:
        """Architecture of the tokenizer. Raises ``ValueError`` where there is none."""
        return ModelConfig.from_dict(self.tower_facts["config"])

    @property
    def tower_facts(self) -> dict[str, Any]:
        """``tower``. Raises ``ValueError`` where it is not complete."""
        facts = self.tower or {}
        if missing := {"name", "config", "weights", "encoder"} - set(facts):
            raise ValueError(f"the config of {MODEL_TYPE} does not say of its tower: {', '.join(sorted(missing))}")
        return facts

    @property
    def layout_config(self) -> LayoutConfig:
        """Budgets and pathways. Raises ``ValueError`` for an unknown key or a number that cannot be."""
        known = {field.name for field in dataclasses.fields(LayoutConfig)}
        if unknown := sorted(set(self.layout or {}) - known):
            raise ValueError(f"layout: unknown key {unknown[0]!r}; the keys are {', '.join(sorted(known))}")
        return LayoutConfig(**(self.layout or {}))

    @property
    def reader(self) -> Reader:
        """What reads sources for this model."""
        return Reader(self.layout_config, self.inputs, self.tower_facts["weights"])


def tower_facts(tokenizer: TokenEncoder, encoder: TokenEncoder) -> dict[str, Any]:
    """``AtokenMllmConfig.tower`` for a tokenizer, whose encoder alone is ``encoder``."""
    return {
        "name": tokenizer.config.name,
        "config": tokenizer.config.to_dict(),
        "weights": tokenizer.weights_hash,
        "encoder": encoder.weights_hash,
    }
