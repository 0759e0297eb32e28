"""``atoken.load``: one door for every kind of weights."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..core.device import find_device
from ..core.errors import ReadError
from ..core.text import shortened
from ..tokenizer.config import PRESETS, ModelConfig
from ..tokenizer.identity import tokenizer_hash
from .config import CONFIG, SHIPPED, WEIGHTS, list_models, read_latent_stats
from .files import DTYPES, constants_of, read_model
from .released import read_released, with_gaussians

if TYPE_CHECKING:
    from ..pipeline.atoken import AToken

CHECKPOINTS = (".pt", ".pth", ".safetensors")


def load(
    source: str | os.PathLike[str],
    *,
    gaussians: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> AToken:
    """A tokenizer in evaluation mode, from the first of these that ``source`` is:

    - the name of a shipped model (``list_models()``);
    - a directory written by ``save_pretrained``;
    - a released state dict, ``.pt`` or ``.safetensors``, whose architecture is read off its tensors;
    - ``owner/name`` on the Hugging Face hub (needs the package huggingface_hub).

    ``gaussians`` is the released Gaussian decoder (``3d_decode_gs.pt``), which 3D needs beside a released tokenizer; it
    takes the place of a head that the model already has. ``device`` is CUDA where there is one and the CPU otherwise;
    ``dtype`` is float32 unless given. Code in a file is never executed. Raises ``FileNotFoundError`` or ``ValueError``
    with one sentence; missing and surplus tensors are listed.
    """
    if not isinstance(source, str | os.PathLike) or not str(source):
        raise ValueError(f"source is {source!r}: give the name of a model or the path of its weights")
    if dtype is not None and dtype not in DTYPES:
        names = ", ".join(map(str, DTYPES))
        raise ValueError(f"dtype is {dtype!r}: give one of {names}")
    device = find_device(device)
    place = _find(source)
    config, state = read_model(place) if place.is_dir() else read_released(place)
    if gaussians is not None:
        config, state = with_gaussians(config, state, Path(gaussians))
    model = build(config, state, device, dtype or torch.float32, where=str(source))
    model.remember_stats(read_latent_stats(place) if place.is_dir() else None)
    return model


def build(
    config: ModelConfig, state: dict[str, Tensor], device: str | torch.device, dtype: torch.dtype, where: str
) -> AToken:
    """A model with the weights of ``state``, which must hold just its tensors in just their shapes.

    Raises ``ReadError`` that names ``where`` and what does not fit.
    """
    for side, depth in (("encoder", config.encoder_depth), ("decoder", config.decoder_depth)):
        found = len({name.split(".")[2] for name in state if name.startswith(f"{side}.blocks.")})
        if depth > found:  # thousands of blocks would take long to lay out
            raise ReadError(f"{where} does not fit its architecture: {side}_depth is {depth}, it has {found} blocks")
    from ..pipeline.atoken import AToken  # with all media, which a search over a complete index does without

    with torch.device("meta"):
        model = AToken(config)
    state = constants_of(config) | state
    check_fit(model.state_dict(), state, where)
    digest = tokenizer_hash(config, state)
    parameters = {name for name, _ in model.named_parameters()}
    moved = {name: t.to(device, dtype if name in parameters else t.dtype) for name, t in state.items()}
    model.load_state_dict(moved, assign=True)
    model.requires_grad_(True).eval()
    model.remember_hash(digest)
    return model


def check_fit(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str) -> None:
    """Raise ``ValueError``, which names ``where``, unless ``state`` has the tensors of ``wanted``, all finite."""
    problems = [f"{name} is missing" for name in wanted if name not in state]
    problems += [f"{shortened(name)} is surplus" for name in state if name not in wanted]
    problems += [
        f"{name} has shape {list(state[name].shape)} instead of {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ReadError(f"{where} does not fit its architecture: {'; '.join(problems[:5])}{more}")
    bad = [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise ReadError(f"{where} holds NaN or infinite weights in {shortened(', '.join(bad))}")


def _find(source: str | os.PathLike[str]) -> Path:
    """The directory of a model, or the file of a checkpoint."""
    path, name = Path(source), str(source)
    if name in list_models():
        return SHIPPED / name
    if path.is_dir():
        return path
    if path.is_file():
        if path.suffix not in CHECKPOINTS:
            raise ValueError(f"{path} is not a checkpoint: expected a directory or one of {', '.join(CHECKPOINTS)}")
        return path
    if name in PRESETS:
        raise ValueError(f"no weights come with {name!r}: AToken(PRESETS[{name!r}]) builds it with random ones")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and path.suffix not in CHECKPOINTS:
        return _download(name)
    shipped = ", ".join(list_models()) or "none"
    raise FileNotFoundError(f"no model at {name!r}: no such file or directory, and the shipped models are: {shipped}")


def _download(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise FileNotFoundError(
            f"no directory {name!r} here, and loading it from the hub needs: pip install huggingface_hub"
        ) from None
    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FileNotFoundError(f"no directory {name!r} here, and the hub did not give it: {reason}") from None
