"""Model directories: config.json beside model.safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from ..config import ModelConfig
from ..files import atomic_write

if TYPE_CHECKING:
    from ..model.tokenizer import AToken

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_model(model: AToken, directory: Path) -> None:
    """Write the config and the weights, each atomically, in the dtype that the model has."""
    with atomic_write(directory / WEIGHTS) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # as the umask has it; safetensors makes its files private
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        safetensors.torch.save_file(state, temporary, {"format": "pt"})
        temporary.chmod(mode)
    with atomic_write(directory / CONFIG) as temporary:
        temporary.write_text(json.dumps(model.config.to_dict(), indent=2) + "\n")


def read_model(directory: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Config and state dict of a directory. Raises ``FileNotFoundError`` or ``ValueError`` with one sentence."""
    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{directory} is not a model directory: it has no {name}")
    try:
        values: Any = json.loads((directory / CONFIG).read_text())
        config = ModelConfig.from_dict(values)
    except ValueError as error:
        raise ValueError(f"{directory / CONFIG}: {error}") from None
    return config, read_safetensors(directory / WEIGHTS)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file; ``ValueError`` where it is truncated or not one."""
    try:
        return safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or not a safetensors file ({error})") from None
