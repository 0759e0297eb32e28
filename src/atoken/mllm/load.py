"""``atoken.load_mllm``: a trained model that answers questions about files, and the small folders that ship one."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ..core.device import find_device
from ..core.errors import ReadError, reading
from ..core.regular import read_regular
from ..core.text import shortened
from ..pipeline.atoken import AToken
from ..tokenizer.identity import fingerprint
from ..weights.files import CONFIG
from ..weights.load import list_models, load
from . import auto  # noqa: F401
from .assemble import assemble
from .config import MODEL_TYPE, AtokenMllmConfig
from .processor import PARTS, PLACEHOLDER
from .smollm import fast_dtype, load_language_model

PROJECTOR = "projector.safetensors"
ADAPTER = "adapter"
"""Folder of the LoRA adapter, in PEFT's format."""
PARTS_FILE = "parts.json"
"""Names of what a small folder is made with: language model, its hash, and the model's config."""
MOST_NEW = 64
"""Tokens of an answer, unless asked for more."""


class Mllm:
    """A model and its processor: questions in, answers out. ``load_mllm`` makes one."""

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model, processor

    def ask(
        self,
        files: Any,
        question: str,
        *,
        max_new_tokens: int = MOST_NEW,
        on_text: Callable[[str], None] | None = None,
    ) -> str:
        """The answer to a question about a source, or a list of sources of any modality; see ``Chat.say``."""
        return self.chat().say(question, files, max_new_tokens=max_new_tokens, on_text=on_text)

    def chat(self) -> Chat:
        """A conversation that remembers what was said."""
        return Chat(self)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a whole folder, which transformers' Auto classes load after ``import atoken.mllm.auto``."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)


class Chat:
    """A conversation: what was said and shown so far is part of each next prompt."""

    def __init__(self, mllm: Mllm) -> None:
        self.mllm = mllm
        self.messages: list[dict[str, Any]] = []

    def say(
        self,
        text: str,
        files: Any = (),
        *,
        max_new_tokens: int = MOST_NEW,
        on_text: Callable[[str], None] | None = None,
    ) -> str:
        """The most likely answer to ``text`` about ``files``: a source, or a list of paths, arrays, clips, 3D, tokens.

        ``on_text`` is called with each piece of the answer as it comes. Raises ``ValueError`` or ``OSError`` with one
        sentence: a file that cannot be read, a prompt that with the answer is longer than the model's context. Then
        the conversation is as it was.
        """
        if not text.strip() or PARTS.search(text) or PLACEHOLDER in text:
            raise ValueError(f"the question is {shortened(text)!r}: give words, without the markers of sources")
        listed = list(files) if isinstance(files, list | tuple) else [files]
        model, processor = self.mllm.model, self.mllm.processor
        read = processor.reader.read
        shown = [{"type": visual.geometry.modality, "source": visual} for visual in map(read, listed)]
        messages = [*self.messages, {"role": "user", "content": [*shown, {"type": "text", "text": text}]}]
        inputs = processor.apply_chat_template(messages, tokenize=True, return_dict=True, add_generation_prompt=True)
        length = inputs["input_ids"].shape[1]
        if length + max_new_tokens > processor.context:
            raise ValueError(
                f"the prompt is {length} tokens, and with an answer of {max_new_tokens} longer than the "
                f"{processor.context} that the model reads: show fewer or smaller files, or begin a new conversation"
            )
        streamer = None if on_text is None else _streamer(processor.tokenizer, on_text)
        with torch.inference_mode():
            found = model.generate(
                **inputs.to(model.device), max_new_tokens=max_new_tokens, do_sample=False, streamer=streamer
            )
        answer = processor.tokenizer.decode(found[0, length:], skip_special_tokens=True).strip()
        self.messages = [*messages, {"role": "assistant", "content": answer}]
        return answer


def _streamer(tokenizer: Any, on_text: Callable[[str], None]) -> Any:
    from transformers import TextStreamer

    class Streamer(TextStreamer):
        """Calls instead of printing."""

        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            """A piece of the answer."""
            if text:
                on_text(text)

    return Streamer(tokenizer, skip_prompt=True, skip_special_tokens=True)


def load_mllm(
    source: str | Path,
    *,
    tokenizer: AToken | str | Path | None = None,
    language_model: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Mllm:
    """A model from the folder of a training run, small or whole.

    A small folder has the projector and the adapter alone: ``tokenizer`` is the one that it learnt with (or what
    ``atoken.load`` takes; without it the shipped one of that name), ``language_model`` the folder of its language model
    where that is not the converted one of a package. ``device`` is CUDA where there is one; ``dtype`` of the language
    model is bfloat16 where the device multiplies in it, else float32. Raises ``FileNotFoundError`` or ``ValueError``
    with one sentence: a folder that is none, a tower or a language model with other weights than in training.
    """
    folder = Path(source)
    device = find_device(device)
    dtype = dtype or (torch.bfloat16 if device.type == "cuda" else fast_dtype())
    if (folder / PARTS_FILE).is_file():
        mllm = _load_small(folder, tokenizer, language_model, dtype)
    else:
        mllm = _load_whole(folder, dtype)
    mllm.model.to(device)
    return mllm


def _load_whole(folder: Path, dtype: torch.dtype) -> Mllm:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"no language model that sees at {shortened(folder)!r}: it has no {CONFIG}")
    with reading(path):
        values = json.loads(read_regular(path))
    if not isinstance(values, dict) or values.get("model_type") != MODEL_TYPE:
        raise ReadError(f"{path} is not the config of a model of type {MODEL_TYPE}")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, local_files_only=True).eval()
    return Mllm(model, AutoProcessor.from_pretrained(folder, local_files_only=True))


def _load_small(folder: Path, tokenizer: Any, language_model: Any, dtype: torch.dtype) -> Mllm:
    path = folder / PARTS_FILE
    with reading(path):
        parts = json.loads(read_regular(path))
        config = AtokenMllmConfig(**parts["config"])
        name, digest = parts["language_model"], parts["language_hash"]
        facts, layout = config.tower_facts, config.layout_config
    tokenizer = _tokenizer(facts, tokenizer)
    text_model, text_tokenizer = load_language_model(name if language_model is None else language_model)
    if (found := language_hash(text_model)) != digest:
        raise ValueError(
            f"{folder} learnt with the language model {shortened(name)!r} of hash {digest[:12]}, and this one has "
            f"{found[:12]}: give its folder as language_model"
        )
    model, processor = assemble(
        tokenizer, text_model, text_tokenizer, inputs=config.inputs, layer=config.layer, layout=layout
    )
    with reading(folder / PROJECTOR):
        model.model.multi_modal_projector.load_state_dict(load_file(folder / PROJECTOR))
    if (folder / ADAPTER).is_dir():
        from peft import PeftModel

        with reading(folder / ADAPTER), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT uses a name that transformers has renamed
            model = PeftModel.from_pretrained(model, folder / ADAPTER).merge_and_unload()
    model.lm_head.to(dtype)
    model.model.language_model.to(dtype)
    model.model.multi_modal_projector.to(dtype)
    model.requires_grad_(False)
    return Mllm(model.eval(), processor)


def _tokenizer(facts: dict[str, Any], given: AToken | str | Path | None) -> AToken:
    if given is None and facts["name"] not in list_models():
        raise ValueError(
            f"the model looks through {shortened(facts['name'])!r}, which does not come with the package: name its "
            "folder as tokenizer"
        )
    found = given if isinstance(given, AToken) else load(facts["name"] if given is None else given, device="cpu")
    if found.weights_hash != facts["weights"]:
        raise ValueError(
            f"the projector learnt with the tower {shortened(facts['name'])!r} of hash {facts['weights'][:12]}, and "
            f"this one has {found.weights_hash[:12]}: give the weights of training"
        )
    return found


def language_hash(model: Any) -> str:
    """SHA-256 of a language model's embeddings as they were published: what tells one from another."""
    return fingerprint({"embeddings": model.get_input_embeddings().weight.detach()})


def save_small(folder: str | Path, model: Any, language_model: str, digest: str) -> None:
    """Write the projector, and the adapter where ``model`` is a PEFT model, as a folder that ``load_mllm`` reads.

    Both in float16, which rounds them to 11 bits. Raises ``ValueError`` for numbers that it cannot hold.

    ``language_model`` and ``digest`` are its name and its ``language_hash`` before it became part of the model. The
    folder appears when it is complete. Raises ``OSError``.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        inner = model.get_base_model() if hasattr(model, "peft_config") else model
        save_file(_halved(inner.model.multi_modal_projector.state_dict(), PROJECTOR), temporary / PROJECTOR)
        if inner is not model:
            model.save_pretrained(temporary / ADAPTER)
            (temporary / ADAPTER / "README.md").unlink(missing_ok=True)  # a form that nobody has filled in
            weights = temporary / ADAPTER / "adapter_model.safetensors"
            save_file(_halved(load_file(weights), weights.name), weights)
        values = inner.config.to_dict()
        config = {key: values[key] for key in ("tower", "layout", "inputs", "layer")}
        told = {"language_model": language_model, "language_hash": digest, "config": config}
        (temporary / PARTS_FILE).write_text(json.dumps(told, indent=1) + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _halved(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    halved = {key: tensor.detach().to("cpu", torch.float16).contiguous() for key, tensor in state.items()}
    if not all(bool(tensor.isfinite().all()) for tensor in halved.values()):
        raise ValueError(f"{name} has numbers that are not finite, or beyond float16: the training went wrong")
    return halved
