"""Released AToken state dicts: telling the architecture from their tensors."""

from __future__ import annotations

import dataclasses
import re
import warnings
from pathlib import Path

from torch import Tensor

from ..config import FRAME_FEATURES, PATCH_FEATURES, GaussianConfig, ModelConfig
from ..model.tokenizer import HEAD, without_head
from .files import read_state_dict

# Continuous and discrete models have tensors of the same shapes; only the published file names tell them apart.
KINDS_OF_FILE = {"atoken-soc": ("continuous",), "atoken-sod": ("discrete",)}

HEAD_DIM = 64
"""Channels of an attention head in the released Gaussian decoder, which its shapes do not tell."""

SIGLIP2 = {1152: "google/siglip2-so400m-patch16-naflex", 768: "google/siglip2-base-patch16-naflex"}
"""Whose text tower the embeddings of each width are aligned with."""


def read_released(path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Config and state dict of a released ``.pt`` or ``.safetensors`` file. Raises ``ValueError``."""
    state = read_state_dict(path)
    config = infer_config(state, path)
    return config, state


def with_gaussians(config: ModelConfig, state: dict[str, Tensor], path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The model with the released Gaussian decoder of ``path``. Raises ``FileNotFoundError`` or ``ValueError``."""
    if not path.is_file():
        raise FileNotFoundError(f"no Gaussian decoder at {path}: no such file")
    head = read_state_dict(path)
    config = dataclasses.replace(config, gaussians=infer_gaussians(head, path))
    return config, {**without_head(state), **{HEAD + name: tensor for name, tensor in head.items()}}


def infer_gaussians(state: dict[str, Tensor], path: Path) -> GaussianConfig:
    """The architecture of a released Gaussian decoder, whose heads have 64 channels. Raises ``ValueError``."""
    try:
        width, features = state["input_layer.weight"].shape
        mlp_width = state["blocks.0.mlp.mlp.0.weight"].shape[0]
        per_voxel = state["offset_perturbation"].shape[0]
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is not a Gaussian decoder: {error} is missing or has another shape") from None
    if features != FRAME_FEATURES or width % HEAD_DIM:
        raise ValueError(f"{path}: {features} numbers a voxel and width {width} do not make a Gaussian decoder")
    return GaussianConfig(width, width // HEAD_DIM, _depth(state, ""), mlp_width, per_voxel)


def infer_config(state: dict[str, Tensor], path: Path) -> ModelConfig:
    """The architecture that the shapes of ``state`` imply. Raises ``ValueError`` where they imply none."""
    try:
        width, features = state["encoder.input_layer.weight"].shape
        heads, head_dim = state["decoder.blocks.0.attn.q_rms_norm.gamma"].shape
        mlp_width = state["encoder.blocks.0.mlp.mlp.0.weight"].shape[0]
        latents = state["decoder.input_layer.weight"].shape[1]
        table = state["encoder.pos_embedder.position_embedding.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is not an AToken tokenizer: {error} is missing or has another shape") from None
    if features != PATCH_FEATURES or heads * head_dim != width:
        raise ValueError(f"{path}: patches of {features} numbers and {heads} heads of {head_dim} do not make an AToken")
    return ModelConfig(
        name=path.stem,
        width=width,
        heads=heads,
        encoder_depth=_depth(state, "encoder."),
        decoder_depth=_depth(state, "decoder."),
        mlp_width=mlp_width,
        latent_channels=latents,
        kinds=_kinds(path, latents),
        table_size=round(table**0.5),
        output_norm="decoder.out_norm.weight" in state,
        text_tower=SIGLIP2.get(width),
    )


def _kinds(path: Path, latents: int) -> tuple[str, ...]:
    for stem, kinds in KINDS_OF_FILE.items():
        if path.stem.lower().startswith(stem):
            return kinds
    if latents % 6:
        return ("continuous",)
    warnings.warn(
        f"{path.name} does not say whether it was trained for continuous or discrete tokens: both are allowed, "
        'continuous is the default, and only the right one decodes well; pass kind="discrete" for a discrete model',
        stacklevel=4,
    )
    return ("continuous", "discrete")


def _depth(state: dict[str, Tensor], prefix: str) -> int:
    found = (re.match(rf"{re.escape(prefix)}blocks\.(\d+)\.", name) for name in state)
    return 1 + max(int(match[1]) for match in found if match)
