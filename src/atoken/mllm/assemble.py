"""A model and its processor out of a tokenizer and a causal language model."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from ..core.text import shortened
from ..tokenizer.net import TokenEncoder
from .config import AtokenMllmConfig, tower_facts
from .layout import LayoutConfig
from .model import AtokenMllmForConditionalGeneration
from .processor import CHAT_TEMPLATE, PLACEHOLDER, AtokenMllmProcessor
from .projector import Projector

MARKS = ("<|im_start|>", "<|im_end|>")
"""Tokens of ChatML, which the chat template is made of."""


def encoder_of(tokenizer: TokenEncoder) -> TokenEncoder:
    """The encoder and the bottleneck of a tokenizer alone, in fp32 and frozen: a copy."""
    encoder = TokenEncoder(tokenizer.config)
    own = encoder.state_dict()
    encoder.load_state_dict({name: tensor.float() for name, tensor in tokenizer.state_dict().items() if name in own})
    return encoder.requires_grad_(False).eval()


def assemble(
    tokenizer: TokenEncoder,
    language_model: Any,
    text_tokenizer: Any,
    *,
    inputs: str = "hidden",
    layer: int | None = None,
    layout: LayoutConfig | None = None,
) -> tuple[AtokenMllmForConditionalGeneration, AtokenMllmProcessor]:
    """A model with a random projector, and its processor. ``language_model`` (a transformers model for causal language
    modelling) and its ``text_tokenizer`` become part of them, with one more token.

    Raises ``ValueError`` for a text tokenizer without the tokens of ChatML, and for inputs that the tokenizer has not.
    """
    if missing := [mark for mark in MARKS if mark not in text_tokenizer.get_vocab()]:
        raise ValueError(f"the text tokenizer has no {missing[0]}: give a language model of the ChatML format")
    if inputs in ("latents", "codes"):
        tokenizer.config.check_kind("discrete" if inputs == "codes" else "continuous")
    layout = layout or default_layout(tokenizer)
    if (head := tokenizer.config.gaussians) is not None and head.resolution != layout.resolution:
        raise ValueError(
            f"{tokenizer.config.name!r} knows {head.resolution} voxels a side, and layout: resolution is "
            f"{layout.resolution}: give {head.resolution}"
        )
    image_token_id = _add_placeholder(language_model, text_tokenizer)
    encoder = encoder_of(tokenizer)
    config = AtokenMllmConfig(
        text_config=language_model.config,
        tower=tower_facts(tokenizer, encoder),
        layout=dataclasses.asdict(layout),
        inputs=inputs,
        layer=layer,
        image_token_id=image_token_id,
        tie_word_embeddings=language_model.config.tie_word_embeddings,
    )
    with torch.device("meta"):
        model = AtokenMllmForConditionalGeneration(config)
    embeddings = language_model.get_input_embeddings().weight
    projector = Projector(config.tower_config, inputs, language_model.config.hidden_size)
    projector.match(float(embeddings.detach().float().std()))
    model.model.vision_tower = encoder
    model.model.multi_modal_projector = projector.to(embeddings.device, embeddings.dtype)
    model.model.language_model = language_model.base_model
    model.lm_head = language_model.get_output_embeddings()
    model.generation_config = language_model.generation_config
    processor = AtokenMllmProcessor(
        text_tokenizer,
        layout=dataclasses.asdict(layout),
        inputs=inputs,
        weights=config.tower_facts["weights"],
        context=language_model.config.max_position_embeddings,
        chat_template=CHAT_TEMPLATE,
    )
    return model.eval(), processor


def default_layout(tokenizer: TokenEncoder) -> LayoutConfig:
    """The default budgets with the grid of voxels that the tokenizer has."""
    head = tokenizer.config.gaussians
    return LayoutConfig() if head is None else LayoutConfig(resolution=head.resolution)


@torch.no_grad()
def _add_placeholder(language_model: Any, text_tokenizer: Any) -> int:
    """The id of the placeholder, for which a row is added to the vocabulary where it has no room.

    The row is the mean of all others, so that its logit is never the largest; nothing reads it as an input.
    """
    if PLACEHOLDER in text_tokenizer.get_vocab():
        raise ValueError(f"the text tokenizer has {shortened(PLACEHOLDER)} already: give it as it was published")
    text_tokenizer.add_special_tokens({"additional_special_tokens": [PLACEHOLDER]})
    number = text_tokenizer.convert_tokens_to_ids(PLACEHOLDER)
    rows = len(language_model.get_input_embeddings().weight)
    if number >= rows:
        language_model.resize_token_embeddings(number + 1, mean_resizing=False)
    for layer in (language_model.get_input_embeddings(), language_model.get_output_embeddings()):
        weight = layer.weight.detach()
        others = weight[:number]
        weight[number] = others.float().mean(0).to(weight.dtype)
    return int(number)
