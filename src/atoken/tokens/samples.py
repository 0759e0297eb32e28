"""One sample of a token shard: tokens under a key, with what belongs to them, as the bytes of a ``.atok`` file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from torch import Tensor

from ..core.equal import equal_fields
from ..core.text import clean, shortened
from .file import NAMES, read_parts, to_bytes, tokens_of
from .tokens import Tokens

LONGEST_KEY = 1024
FEATURES = "features"
"""Name of the extra tensor [N, F] that has features of each token, such as the encoder's own states."""
LOGVAR = "logvar"
"""Name of the extra tensor [N, C] that has the log-variance of each latent, whose mean the tokens are."""
EXTRA = "extra."
"""What the names of extra tensors begin with in the file."""
MIRRORED = "@flip"
"""What the key of a sample ends in that was mirrored left to right; before it stands the key of the original."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenSample:
    """Tokens of one source, its key among all samples, and what a trainer needs besides them.

    Raises ``ValueError`` for a key that is empty, long or not printable, and for anything of another type.
    """

    key: str
    tokens: Tokens
    label: int | None = None
    """Number of the class."""
    captions: tuple[str, ...] = ()
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors by name, such as ``{"embedding": fp32 [W]}``; of the dtypes that token files have, on the CPU."""

    def __post_init__(self) -> None:
        check_key(self.key)
        name = f"sample {shortened(self.key)}"
        if not isinstance(self.tokens, Tokens):
            raise ValueError(f"{name}: {type(self.tokens).__name__} is no Tokens")
        if self.label is not None and (type(self.label) is not int or abs(self.label) >= 1 << 63):
            raise ValueError(f"{name}: label {shortened(self.label)} is no integer of 64 bits")
        if not isinstance(self.captions, tuple) or not all(map(_is_text, self.captions)):
            raise ValueError(f"{name}: the captions are not a tuple of Unicode texts")
        for extra, tensor in self.extras.items():
            if not _is_text(extra) or not isinstance(tensor, Tensor) or tensor.dtype not in NAMES or not tensor.numel():
                known = ", ".join(str(dtype).removeprefix("torch.") for dtype in NAMES)
                raise ValueError(f"{name}: extra {shortened(extra)!r} is no tensor of {known} with numbers in it")

    def __eq__(self, other: object) -> bool:
        """Whether all fields are equal, tensors by dtype and by value."""
        return equal_fields(self, other)

    def to_bytes(self) -> bytes:
        """A whole ``.atok`` file, the same bytes for equal samples; ``Tokens.load`` reads its tokens.

        Raises ``ValueError`` as ``Tokens.save``.
        """
        facts = {"key": self.key}
        if self.label is not None:
            facts["label"] = str(self.label)
        if self.captions:
            facts["captions"] = json.dumps(self.captions)
        extras = {
            f"{EXTRA}{name}": self.extras[name].reshape(self.extras[name].shape or (1,)) for name in sorted(self.extras)
        }
        return to_bytes(self.tokens, facts, extras)

    @classmethod
    def from_bytes(cls, data: bytes) -> TokenSample:
        """The inverse of ``to_bytes``. Raises ``ValueError`` where the bytes are damaged or have no key."""
        metadata, tensors = read_parts(data)
        tokens = tokens_of(metadata, tensors)
        try:
            facts: dict[str, Any] = {"key": metadata["key"]}
            if "label" in metadata:
                facts["label"] = int(metadata["label"])
            facts["captions"] = tuple(json.loads(metadata.get("captions", "[]")))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"the facts of the sample are not complete ({shortened(error)})") from None
        extras = {name.removeprefix(EXTRA): part for name, part in tensors.items() if name.startswith(EXTRA)}
        return cls(tokens=tokens, extras=extras, **facts)


def check_key(key: object) -> None:
    """Raise ``ValueError`` unless ``key`` can be that of a sample: printable Unicode text, not too long."""
    if not _is_text(key) or not 0 < len(key) <= LONGEST_KEY or not key.isprintable() or key == "__metadata__":
        raise ValueError(f"{shortened(repr(key))} is no key of a sample: give 1 to {LONGEST_KEY} printable characters")


def _is_text(value: object) -> TypeGuard[str]:
    """Whether ``value`` is text that UTF-8 can hold."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def as_key(name: str) -> str:
    """A file's name as a key: bytes that are no UTF-8 and what cannot be printed are written out."""
    return clean(name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
