"""Model directories (config.json beside model.safetensors) and state-dict files, read without running their code."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ..config import ModelConfig
from ..files import atomic_write
from .int8 import pack_int8, unpack_int8

if TYPE_CHECKING:
    from ..model.tokenizer import AToken

CONFIG, WEIGHTS = "config.json", "model.safetensors"


STORAGES = ("int8",)
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def save_model(model: AToken, directory: Path, storage: str | None = None) -> None:
    """Write the config and the weights, each atomically, in the dtype that the model has or as ``storage`` says.

    Raises ``ValueError`` for an unknown storage, and ``OSError``.
    """
    if storage is not None and storage not in STORAGES:
        raise ValueError(f"storage is {storage!r}: give {' or '.join(STORAGES)}, or none for the dtype of the model")
    with atomic_write(directory / WEIGHTS) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # as the umask has it; safetensors makes its files private
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        state = pack_int8(state) if storage == "int8" else state
        try:
            safetensors.torch.save_file(state, temporary, {"format": "pt"})
        except SafetensorError as error:  # how it says that the disk is full
            found = re.search(r"os error (\d+)", str(error))
            code = int(found[1]) if found else errno.EIO
            raise OSError(code, os.strerror(code), str(temporary)) from error
        temporary.chmod(mode)
    with atomic_write(directory / CONFIG) as temporary:
        temporary.write_text(json.dumps(model.config.to_dict(), indent=2) + "\n")


def read_model(directory: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Config and state dict of a directory. Raises ``FileNotFoundError`` or ``ValueError`` with one sentence."""
    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{directory} is not a model directory: it has no {name}")
    config = read_config(directory)
    state = read_safetensors(directory / WEIGHTS)
    try:
        state = unpack_int8(state)
    except ValueError as error:
        raise ValueError(f"{directory / WEIGHTS}: {error}") from None
    check_weights(state, directory / WEIGHTS)
    return config, state


def read_config(directory: Path) -> ModelConfig:
    """Config of a model directory. Raises ``ValueError`` with one sentence."""
    try:
        values: Any = json.loads((directory / CONFIG).read_text())
        return ModelConfig.from_dict(values)
    except RecursionError:
        raise ValueError(f"{directory / CONFIG}: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{directory / CONFIG}: {error}") from None


def check_weights(state: dict[str, Tensor], path: Path) -> None:
    """Raise ``ValueError`` unless all of ``state`` are dense tensors of a dtype that weights can have."""
    for name, tensor in state.items():
        if tensor.dtype not in DTYPES or tensor.layout != torch.strided or tensor.device.type != "cpu":
            kinds = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
            found = f"{tensor.dtype}, {tensor.layout}, {tensor.device}".replace("torch.", "")
            raise ValueError(f"{path}: {name} is {found}, and weights are dense tensors of {kinds}")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file; ``ValueError`` where it is truncated or not one."""
    try:
        return safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or not a safetensors file ({error})") from None


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors of a ``.safetensors`` or ``torch.save`` file on the CPU, without ever running code from it.

    Raises ``FileNotFoundError``, and ``ValueError`` for a file that is damaged or holds more than tensors.
    """
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on the pickle's protocol; what matters is raised below
            state: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        reason = "it holds code or objects" if "weights_only" in str(error).lower() else "it is damaged"
        raise ValueError(f"{path} is refused: {reason}, and only tensors are loaded") from None
    except (RuntimeError, EOFError, ValueError, KeyError):
        raise ValueError(f"{path} is truncated or not a PyTorch checkpoint") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        found = ", ".join(map(str, list(state)[:5])) if isinstance(state, dict) else type(state).__name__
        raise ValueError(f"{path} is not a plain state dict of tensors: it holds {found}")
    if other := [name for name in state if not isinstance(name, str)]:
        raise ValueError(f"{path} is not a plain state dict of tensors: {other[0]!r} is no name")
    return state
