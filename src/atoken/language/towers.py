"""Frozen text towers: texts in, unit vectors or the states of their tokens out."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.transformers import pretrained, read_config
from ..core.text import shortened
from ..tokenizer.identity import fingerprint
from ..weights.files import read_safetensors
from . import minilm
from .bert import EPS, Bert

MINILM = minilm.NAME
BATCH = 64


class TextTower(Protocol):
    """What ``text`` returns."""

    name: str
    """How ``text`` calls it, and how ``ModelConfig.text_tower`` names it."""
    width: int
    """Numbers of an embedding."""
    state_width: int
    """Numbers of a token's state."""

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the weights."""

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Embeddings of B texts: fp32 [B, width] of unit length, on the CPU."""
        ...

    def states(self, texts: Sequence[str]) -> list[Tensor]:
        """Last hidden states of the tokens of B texts: B times fp32 [n, state_width], on the CPU."""
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

    name, width, state_width = MINILM, minilm.WIDTH, minilm.WIDTH

    def __init__(self, device: str | torch.device = "cpu") -> None:
        state = read_safetensors(minilm.folder() / minilm.WEIGHTS)
        self.tokenizer: Any = minilm.tokenizer()
        self.model = TorchBert({name: tensor.to(device) for name, tensor in state.items()}, minilm.HEADS)
        self.device = device

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 of the weights; counted when first asked for, which a search never does."""
        return fingerprint(dict(self.model.state))

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Embeddings of B texts: fp32 [B, 384] of unit length, on the CPU."""
        vectors = torch.empty(len(texts), self.width)
        for i, states in self._hidden(texts):
            vectors[i] = F.normalize(states.mean(0), dim=-1)
        return vectors

    @torch.no_grad()
    def states(self, texts: Sequence[str]) -> list[Tensor]:
        """Last hidden states of the tokens of B texts, with [CLS] and [SEP]: B times fp32 [n, 384], on the CPU."""
        found = {i: states.clone() for i, states in self._hidden(texts)}  # a view would keep the padded batch
        return [found[i] for i in range(len(texts))]

    def _hidden(self, texts: Sequence[str]) -> Iterator[tuple[int, Tensor]]:
        """The place and the states of each text, shorter ones first: neighbours of one length waste no padding."""
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(_checked(texts))]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            lengths = torch.tensor([len(ids[i]) for i in chosen])
            longest = int(lengths[-1])
            padded = torch.tensor([ids[i] + [0] * (longest - len(ids[i])) for i in chosen])
            mask = torch.arange(longest) < lengths[:, None]
            hidden = self.model(padded.to(self.device), mask.to(self.device)).float().cpu()  # [B, longest, 384]
            for i, states, length in zip(chosen, hidden, lengths.tolist(), strict=True):
                yield i, states[:length]


class TorchBert(Bert):
    """The same over torch's tensors, on any device."""

    def linear(self, name: str, x: Tensor) -> Tensor:
        """A matrix and a bias."""
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def norm(self, name: str, x: Tensor) -> Tensor:
        """Layer norm over the last axis."""
        weight = self.state[f"{name}.weight"]
        return F.layer_norm(x, weight.shape, weight, self.state[f"{name}.bias"], EPS)

    def attention(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """Softmax attention, [B, H, N, D], to where ``mask`` [B, 1, 1, N] is true."""
        return F.scaled_dot_product_attention(q, k, v, mask)

    def gelu(self, x: Tensor) -> Tensor:
        """GELU by the error function."""
        return F.gelu(x)


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
        self.state_width = int(model.config.hidden_size)
        self.longest = int(model.config.max_position_embeddings)

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 of the weights; counted when first asked for."""
        return fingerprint(self.model.state_dict())

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Embeddings of B texts: fp32 [B, width] of unit length, on the CPU."""
        return torch.cat([F.normalize(out.pooler_output.float(), dim=-1).cpu() for out in self._outputs(texts)])

    @torch.no_grad()
    def states(self, texts: Sequence[str]) -> list[Tensor]:
        """Last hidden states of all positions of B texts, as the tower sees its padding: B times fp32 [longest, W]."""
        return [states for out in self._outputs(texts) for states in out.last_hidden_state.float().cpu()]

    def _outputs(self, texts: Sequence[str]) -> Iterator[Any]:
        texts = [canonical(item) for item in _checked(texts)]
        for start in range(0, len(texts), BATCH):
            options: dict[str, Any] = {"padding": "max_length", "truncation": True, "max_length": self.longest}
            ids = self.tokenizer(texts[start : start + BATCH], return_tensors="pt", **options)["input_ids"]
            yield self.model(ids.to(self.device))


def canonical(item: str) -> str:
    """Lower case, without punctuation, single spaces: as SigLIP2's texts were in training."""
    return " ".join(item.lower().translate(str.maketrans("", "", string.punctuation)).split())


def _checked(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str) or not texts or not all(isinstance(item, str) for item in texts):
        raise ValueError("a text tower reads a list of texts, at least one")
    for item in texts:
        if any("\ud800" <= letter <= "\udfff" for letter in item):  # bytes of a command line that are no UTF-8
            raise ValueError(f"{shortened(repr(item))} is no Unicode text")
    return list(texts)
