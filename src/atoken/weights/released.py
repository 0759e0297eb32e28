"""Released AToken state dicts: telling the architecture from their tensors."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..core.errors import ReadError
from ..tokenizer.config import GaussianConfig, ModelConfig
from ..tokenizer.identity import HEAD, without_head
from ..tokens.patch import FRAME_FEATURES, PATCH_FEATURES
from .files import check_weights, read_state_dict

# Continuous and discrete models have tensors of the same shapes; only the published file names tell them apart.
KINDS_OF_FILE = {"atoken-soc": ("continuous",), "atoken-sod": ("discrete",)}

HEAD_DIM = 64
"""Channels of an attention head in the released Gaussian decoder, which its shapes do not tell."""

SIGLIP2 = {1152: "google/siglip2-so400m-patch16-naflex", 768: "google/siglip2-base-patch16-naflex"}
"""Whose text tower the embeddings of each width are aligned with."""


def read_released(path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Config and state dict of a released ``.pt`` or ``.safetensors`` file. Raises ``ReadError``."""
    state = read_state_dict(path)
    check_weights(state, path)
    return infer_config(state, path), state


def with_gaussians(config: ModelConfig, state: dict[str, Tensor], path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The model with the released Gaussian decoder of ``path``. Raises ``FileNotFoundError`` or ``ReadError``."""
    if not path.is_file():
        raise FileNotFoundError(f"no Gaussian decoder at {path}: no such file")
    head = read_state_dict(path)
    check_weights(head, path)
    config = dataclasses.replace(config, gaussians=infer_gaussians(head, path))
    return config, {**without_head(state), **{HEAD + name: tensor for name, tensor in head.items()}}


def infer_gaussians(state: dict[str, Tensor], path: Path) -> GaussianConfig:
    """The architecture of a released Gaussian decoder, whose heads have 64 channels. Raises ``ReadError``."""
    where = f"{path} is not a Gaussian decoder"
    width, features = _matrix(state, "input_layer.weight", where)
    mlp_width, _ = _matrix(state, "blocks.0.mlp.mlp.0.weight", where)
    per_voxel, _ = _matrix(state, "offset_perturbation", where)
    if features != FRAME_FEATURES or width % HEAD_DIM:
        raise ReadError(f"{path}: {features} numbers a voxel and width {width} do not make a Gaussian decoder")
    return GaussianConfig(width, width // HEAD_DIM, _depth(state, ("",), path), mlp_width, per_voxel)


def infer_config(state: dict[str, Tensor], path: Path) -> ModelConfig:
    """The architecture that the shapes of ``state`` imply. Raises ``ReadError`` where they imply none.

    Released models have both final norms, and as many blocks in the encoder as in the decoder.
    """
    where = f"{path} is not an AToken tokenizer"
    width, features = _matrix(state, "encoder.input_layer.weight", where)
    heads, head_dim = _matrix(state, "decoder.blocks.0.attn.q_rms_norm.gamma", where)
    mlp_width, _ = _matrix(state, "encoder.blocks.0.mlp.mlp.0.weight", where)
    _, latents = _matrix(state, "decoder.input_layer.weight", where)
    table, _ = _matrix(state, "encoder.pos_embedder.position_embedding.weight", where)
    if features != PATCH_FEATURES or heads * head_dim != width:
        raise ReadError(f"{path}: patches of {features} numbers and {heads} heads of {head_dim} do not make an AToken")
    depth = _depth(state, ("encoder.", "decoder."), path)
    return ModelConfig(
        name=path.stem,
        width=width,
        heads=heads,
        encoder_depth=depth,
        decoder_depth=depth,
        mlp_width=mlp_width,
        latent_channels=latents,
        kinds=_kinds(path, latents),
        table_size=round(table**0.5),
        text_tower=SIGLIP2.get(width),
    )


def _matrix(state: dict[str, Tensor], name: str, where: str) -> tuple[int, int]:
    """Rows and columns of a tensor. Raises ``ReadError`` where it is missing or no matrix."""
    if name not in state:
        raise ReadError(f"{where}: {name} is missing")
    if state[name].ndim != 2:
        raise ReadError(f"{where}: {name} has shape {list(state[name].shape)} and should be a matrix")
    rows, columns = state[name].shape
    return rows, columns


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


def _depth(state: dict[str, Tensor], sides: Sequence[str], path: Path) -> int:
    """Blocks of each side. Raises ``ReadError`` unless all have the same ones, numbered from 0 without a gap."""
    pattern = re.compile(rf"({'|'.join(map(re.escape, sides))})blocks\.(\d{{1,9}})\.")
    found = {(match[1], int(match[2])) for match in map(pattern.match, state) if match}
    depth = len({number for _, number in found})
    missing = [(side, number) for side in sides for number in range(depth) if (side, number) not in found]
    problems = [f"{side}blocks.{number} is missing" for side, number in missing]
    problems += [f"{side}blocks.{number} is out of turn" for side, number in sorted(found) if number >= depth]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ReadError(f"{path} does not have its blocks in full: {'; '.join(problems[:5])}{more}")
    return depth
