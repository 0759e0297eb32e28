"""An encoder that starts as a SigLIP2 vision tower (paper section 3.2)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..backbones.transformers import pretrained, read_config
from ..pipeline.atoken import AToken
from ..tokenizer.config import ModelConfig
from ..tokens.patch import FRAME_FEATURES


def siglip2_encoder(source: str | Path) -> dict[str, Tensor]:
    """The ``encoder.*`` tensors of a tokenizer from a SigLIP2 naflex checkpoint for transformers (folder or hub).

    The patch embedding acts on frame 0 and the weights of the other three frames are zero; position table, blocks,
    final norm and pooling head are taken over. Without rotary positions (``ModelConfig.rope``) the encoder then gives
    SigLIP2's features of a picture. Raises ``ValueError`` for another kind of model or patch size.
    """
    config = read_config(source, "SigLIP2 model")
    if config.model_type not in ("siglip2", "siglip2_vision_model"):
        raise ValueError(f"{source} is a {config.model_type!r}: the encoder starts from a siglip2 (naflex) model")
    model = pretrained("Siglip2VisionModel", source, "vision weights")
    return translate({name.removeprefix("vision_model."): t for name, t in model.state_dict().items()}, model.config)


def translate(state: dict[str, Tensor], config: Any) -> dict[str, Tensor]:
    """Rename and rearrange the tensors of a ``Siglip2VisionModel``."""
    patch = state["embeddings.patch_embedding.weight"]
    if patch.shape[1] != FRAME_FEATURES:
        raise ValueError(f"SigLIP2 patches have {patch.shape[1]} numbers, ours {FRAME_FEATURES} (16 x 16 x 3)")
    input_layer = patch.new_zeros(len(patch), 4 * FRAME_FEATURES)
    input_layer[:, :FRAME_FEATURES] = patch  # both flatten a patch as (row, column, RGB)
    out = {
        "input_layer.weight": input_layer,
        "input_layer.bias": state["embeddings.patch_embedding.bias"],
        "pos_embedder.position_embedding.weight": state["embeddings.position_embedding.weight"],
        "head.probe": state["head.probe"].flatten(),
    }
    for kind in ("weight", "bias"):
        out[f"post_layernorm.{kind}"] = state[f"post_layernorm.{kind}"]
        for index in range(config.num_hidden_layers):
            theirs, ours = f"encoder.layers.{index}", f"blocks.{index}"
            qkv = [state[f"{theirs}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            out[f"{ours}.attn.to_qkv.{kind}"] = torch.cat(qkv)
            out[f"{ours}.attn.to_out.{kind}"] = state[f"{theirs}.self_attn.out_proj.{kind}"]
            for number, layer in ((1, 0), (2, 2)):
                out[f"{ours}.norm{number}.{kind}"] = state[f"{theirs}.layer_norm{number}.{kind}"]
                out[f"{ours}.mlp.mlp.{layer}.{kind}"] = state[f"{theirs}.mlp.fc{number}.{kind}"]
        q, k, v = state[f"head.attention.in_proj_{kind}"].chunk(3)
        out[f"head.attention.to_q.{kind}"], out[f"head.attention.to_kv.{kind}"] = q, torch.cat([k, v])
        out[f"head.attention.to_out.{kind}"] = state[f"head.attention.out_proj.{kind}"]
        out[f"head.layernorm.{kind}"] = state[f"head.layernorm.{kind}"]
        for number, layer in ((1, 0), (2, 2)):
            out[f"head.mlp.mlp.{layer}.{kind}"] = state[f"head.mlp.fc{number}.{kind}"]
    return {f"encoder.{name}": tensor for name, tensor in out.items()}


def siglip2_config(source: str | Path, config: ModelConfig) -> ModelConfig:
    """``config`` with the encoder's sizes of a SigLIP2 checkpoint, aligned with its own text tower."""
    theirs = read_config(source, "SigLIP2 model")
    theirs = getattr(theirs, "vision_config", theirs)
    return dataclasses.replace(
        config,
        width=theirs.hidden_size,
        heads=theirs.num_attention_heads,
        encoder_depth=theirs.num_hidden_layers,
        mlp_width=theirs.intermediate_size,
        table_size=round(theirs.num_patches**0.5),
        embed_dim=None,
        text_tower=str(source),
    )


@torch.no_grad()
def start_from_siglip2(model: AToken, source: str | Path) -> None:
    """Overwrite the encoder of ``model`` with SigLIP2's vision tower; the rest keeps its weights.

    Raises ``ValueError`` where a size differs (``siglip2_config`` gives a config that fits).
    """
    state, own = siglip2_encoder(source), model.state_dict()
    for name, tensor in state.items():
        if name not in own or own[name].shape != tensor.shape:
            found = list(own[name].shape) if name in own else "absent"
            raise ValueError(f"{source} does not fit the model: {name} is {list(tensor.shape)}, and here {found}")
    if surplus := [name for name in own if name.startswith("encoder.") and name not in state]:
        raise ValueError(f"{source} does not fit the model: it has no {surplus[0]}")
    for name, tensor in state.items():
        own[name].copy_(tensor)
