"""Model directories (config.json beside model.safetensors) and state-dict files, read without running their code."""

from __future__ import annotations

import errno
import os
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ..core.errors import ReadError, reading
from ..core.files import atomic_write, whole_folder
from ..core.regular import check_regular, open_regular
from ..core.text import shortened
from ..tokenizer.config import ModelConfig
from ..tokenizer.gaussian_head import first_offsets
from ..tokenizer.identity import HEAD
from .config import CONFIG, LATENT_STATS, WEIGHTS, read_config, write_config
from .int8 import linear_weights, pack_int8, unpack_int8

if TYPE_CHECKING:
    from ..pipeline.atoken import AToken

STORAGES = ("int8",)
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def save_model(model: AToken, directory: Path, storage: str | None = None) -> None:
    """Write the config and the weights, in the dtype that the model has or as ``storage`` says.

    A new folder appears when it is complete; in one that is there each file does.

    Raises ``ValueError`` for an unknown storage, and ``OSError``.
    """
    check_storage(storage)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    for name, constant in constants_of(model.config).items():
        if torch.equal(state[name], constant):
            del state[name]
    state = pack_int8(state, linear_weights(model)) if storage == "int8" else state
    with whole_folder(directory) as folder:
        write_safetensors(folder / WEIGHTS, state)
        write_config(folder / CONFIG, config_values(model))


def config_values(model: AToken) -> dict[str, Any]:
    """What config.json says of a model: its config, and what is known of its latents."""
    stats = model.latent_stats
    return model.config.to_dict() | ({} if stats is None else {LATENT_STATS: vars(stats)})


def check_storage(storage: str | None) -> None:
    """Raise ``ValueError`` for a storage that is neither known nor None."""
    if storage is not None and storage not in STORAGES:
        raise ValueError(f"storage is {storage!r}: give {' or '.join(STORAGES)}, or none for the dtype of the model")


def write_safetensors(path: Path, state: dict[str, Tensor]) -> None:
    """Write tensors of the CPU to a safetensors file, atomically. Raises ``OSError``."""
    with atomic_write(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # as the umask has it; safetensors makes its files private
        try:
            safetensors.torch.save_file(state, temporary, {"format": "pt"})
        except SafetensorError as error:  # how it says that the disk is full
            found = re.search(r"os error (\d+)", str(error))
            code = int(found[1]) if found else errno.EIO
            raise OSError(code, os.strerror(code), str(temporary)) from error
        temporary.chmod(mode)


def constants_of(config: ModelConfig) -> dict[str, Tensor]:
    """Tensors of a model that its config decides: files hold them only where they have others."""
    return {} if config.gaussians is None else {HEAD + "offset_perturbation": first_offsets(config.gaussians)}


def read_model(directory: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Config and state dict of a directory. Raises ``FileNotFoundError`` or ``ReadError``, which names the file."""
    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{directory} is not a model directory: it has no {name}")
    config = read_config(directory)
    return config, read_weights(directory / WEIGHTS)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Weights of a safetensors file, those in int8 as fp32. Raises ``FileNotFoundError`` or ``ReadError``."""
    state = read_safetensors(path)
    try:
        state = unpack_int8(state)
    except ValueError as error:
        raise ReadError(f"{path}: {error}") from None
    check_weights(state, path)
    return state


def check_weights(state: dict[str, Tensor], path: Path) -> None:
    """Raise ``ReadError`` unless all of ``state`` are dense tensors of a dtype that weights can have."""
    for name, tensor in state.items():
        if tensor.dtype not in DTYPES or tensor.layout != torch.strided or tensor.device.type != "cpu":
            kinds = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
            found = f"{tensor.dtype}, {tensor.layout}, {tensor.device}".replace("torch.", "")
            raise ReadError(f"{path}: {shortened(name)} is {found}, and weights are dense tensors of {kinds}")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file. Raises ``FileNotFoundError``, and ``ReadError`` where it is damaged or none."""
    with reading(path):
        check_regular(path)
        return safetensors.torch.load_file(path)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors of a ``.safetensors`` or ``torch.save`` file on the CPU, without ever running code from it.

    Raises ``FileNotFoundError``, and ``ReadError`` for a file that is damaged or holds more than tensors.
    """
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch remarks on the pickle's protocol; what matters is raised below
        with open_regular(path) as file:
            refuse_compressed(file, path)
        try:
            state: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except pickle.UnpicklingError as error:
            reason = "it holds code or objects" if "weights_only" in str(error).lower() else "it is damaged"
            raise ReadError(f"{path} is refused: {reason}, and only tensors are loaded") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        found = ", ".join(map(str, list(state)[:5])) if isinstance(state, dict) else type(state).__name__
        raise ReadError(f"{path} is not a plain state dict of tensors: it holds {shortened(found)}")
    if other := [name for name in state if not isinstance(name, str)]:
        raise ReadError(f"{path} is not a plain state dict of tensors: {shortened(other[0])} is no name")
    return state


def refuse_compressed(file: IO[bytes], name: object) -> None:
    """Raise ``ReadError`` where a file of ``torch.save`` is compressed: it may unpack to a thousand times its size.

    ``torch.save`` stores all as it is. Files of its old format, which are no archives, pass.
    """
    size = file.seek(0, os.SEEK_END)
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ReadError(f"{name} is refused: it is compressed, as torch.save never does: save it again with torch.save")
    if sum(member.file_size for member in members) > size:
        raise ReadError(f"{name} is refused: its members announce more bytes than it has: save or download it again")
