"""``atoken.load_generator``: one door for every generator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ..core.device import find_device
from ..core.errors import ReadError, reading
from ..core.regular import read_regular
from ..core.text import shortened
from ..pipeline.atoken import AToken
from ..weights.config import CONFIG, GENERATORS, WEIGHTS, list_generators, list_models
from ..weights.files import DTYPES, read_weights
from ..weights.load import check_fit, load
from .config import GeneratorConfig
from .flow.generator import FlowGenerator
from .generator import NET, Generator
from .masked.generator import MaskedGenerator

KINDS: dict[str, type[Generator]] = {kind.config_class.kind: kind for kind in (FlowGenerator, MaskedGenerator)}


def find_generator(source: str | Path) -> Path:
    """The folder of a shipped generator or of one that ``save_pretrained`` wrote. Raises ``FileNotFoundError``."""
    folder = GENERATORS / source if str(source) in list_generators() else Path(source)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            shipped = ", ".join(list_generators()) or "none yet"
            raise FileNotFoundError(
                f"no generator at {shortened(folder)!r}: it has no {name}, and with the package come: {shipped}"
            )
    return folder


def load_generator(
    source: str | Path,
    *,
    tokenizer: AToken | str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Generator:
    """A generator in evaluation mode: a shipped one by its name, or from the folder that ``save_pretrained`` wrote.

    ``tokenizer`` is the one whose tokens it draws, or what ``atoken.load`` takes; without it the shipped model of the
    name that the generator was trained with. ``device`` is CUDA where there is one and the CPU otherwise; ``dtype`` is
    float32 unless given. Raises ``FileNotFoundError`` or ``ValueError`` with one sentence: a folder that is none, other
    tensors than the config says, a tokenizer with other weights.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}: give one of {', '.join(map(str, DTYPES))}")
    device = find_device(device)
    folder = find_generator(source)
    config = read_generator_config(folder)
    state = read_weights(folder / WEIGHTS)
    blocks = len({name.split(".")[2] for name in state if name.startswith(f"{NET}blocks.")})
    if config.net.blocks > blocks:  # thousands of blocks would take long to lay out
        raise ReadError(f"{folder} does not fit its architecture: depth is {config.net.blocks}, it has {blocks} blocks")
    kind = KINDS[config.generator]
    with torch.device("meta"):
        net = kind.net_class(config.net)
    extras = kind.extra_tensors(config)
    check_fit({NET + name: tensor for name, tensor in net.state_dict().items()} | extras, state, str(folder))
    own = {name.removeprefix(NET): tensor for name, tensor in state.items() if name.startswith(NET)}
    net.load_state_dict({name: tensor.to(device, dtype or torch.float32) for name, tensor in own.items()}, assign=True)
    found = _tokenizer(config, tokenizer, device)
    try:
        return kind.assemble(config, net.eval(), {name: state[name] for name in extras}, found).eval()
    except ValueError as error:
        raise ReadError(f"{folder}: {error}") from None


def is_generator(folder: Path) -> bool:
    """Whether a folder's config is that of a generator, of whatever kind. Raises ``ReadError`` for a damaged one."""
    path = folder / CONFIG
    if not path.is_file():
        return False
    with reading(path):
        values: Any = json.loads(read_regular(path))
    return isinstance(values, dict) and "generator" in values


def read_generator_config(folder: Path) -> GeneratorConfig:
    """Config of a generator's folder. Raises ``ReadError`` with one sentence."""
    path = folder / CONFIG
    with reading(path):
        values: Any = json.loads(read_regular(path))
    if not isinstance(values, dict) or "generator" not in values:
        raise ReadError(f"{path} is not the config of a generator: is {folder} a tokenizer?")
    try:
        kind = values["generator"]
        if not isinstance(kind, str) or kind not in KINDS:
            raise ValueError(f"generator is {shortened(repr(kind))}: give {' or '.join(KINDS)}")
        return KINDS[kind].config_class.from_dict(values)
    except ValueError as error:
        raise ReadError(f"{path}: {error}") from None


def _tokenizer(config: GeneratorConfig, given: AToken | str | Path | None, device: torch.device) -> AToken:
    if isinstance(given, AToken):
        return given
    if given is None and config.tokenizer not in list_models():
        raise ValueError(
            f"the generator {shortened(config.name)!r} draws tokens of {shortened(config.tokenizer)!r}, which does not "
            "come with the package: name its folder as tokenizer"
        )
    return load(config.tokenizer if given is None else given, device=device)
