"""Which weights a model has: their hash, and whether it still is that of the weights as they are."""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .config import ModelConfig

HEAD = "gaussians."
"""What the names of the Gaussian head's tensors begin with."""

UNSEEN = ("heads", "rope", "gelu", "latent_norm", "output_norm", "encoder_tile", "fsq_levels")
"""Fields of a config that change what tokens mean, though no tensor need have another shape."""

SAMPLES = 64
"""Numbers of each parameter that are compared."""


class Identity(nn.Module):
    """A module that knows the hash of its weights, and notices when they change.

    To hash the weights takes longer than to encode a small picture, so the hash is kept together with the marks of the
    parameters that it stands for: which objects they are, where their numbers lie, how often autograd saw them change
    in place, and ``SAMPLES`` numbers of each. So in-place operations, optimizers, captured graphs, ``.data`` edits of
    whole tensors, ``load_state_dict(assign=True)`` and replaced modules are all noticed. Not noticed is an edit of a
    few numbers that goes round autograd (``p.data[3, 5] = 0``, a NumPy view): call ``forget_hash`` after it.
    """

    config: ModelConfig
    _known_hash: tuple[str, _Marks] | None = None

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the weights as they were loaded, widened to fp32, and of what the config says beyond them.

        Counted anew after they changed, and kept when they move to another device or dtype. The Gaussian head is left
        out: tokens do not depend on it.
        """
        digest = self._current_hash()
        if digest is None:
            digest = tokenizer_hash(self.config, self.state_dict())
            self.remember_hash(digest)
        return digest

    @property
    def last_hash(self) -> str:
        """``weights_hash`` as it was when it was last asked for: for each of many pictures of one call."""
        known = self._known_hash  # read once: other threads may forget it meanwhile
        return self.weights_hash if known is None else known[0]

    def remember_hash(self, digest: str) -> None:
        """Keep ``digest`` as the hash of the weights as they are now."""
        self._known_hash = (digest, _Marks(self)) if self._is_whole() else None

    def forget_hash(self) -> None:
        """Count the hash anew when it is asked for next."""
        self._known_hash = None

    def _current_hash(self) -> str | None:
        """The known hash, unless the weights have changed."""
        known = self._known_hash
        if known is None or (self._is_whole() and known[1] == _Marks(self)):
            return None if known is None else known[0]
        self._known_hash = None
        return None

    def _is_whole(self) -> bool:
        """Whether all numbers are here: sharded parameters are of a class of their own, and meta tensors have none."""
        return all(type(parameter) is nn.Parameter and not parameter.is_meta for parameter in self.parameters())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Identity:
        """What ``to``, ``half`` and ``cuda`` go through: the same weights elsewhere, or rounded, keep their hash."""
        digest = self._current_hash()
        super()._apply(fn, recurse)
        if digest is not None:
            self.remember_hash(digest)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_known_hash": self._current_hash()}  # marks are of these parameters, not of a copy's

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "_known_hash": None})
        if state["_known_hash"] is not None:
            self.remember_hash(state["_known_hash"])


class _Marks:
    """What tells the parameters of a module, and their numbers, from others; the Gaussian head's are left out."""

    def __init__(self, module: Identity) -> None:
        parameters = [parameter for name, parameter in module.named_parameters() if not name.startswith(HEAD)]
        self.config = module.config
        self.owners = [weakref.ref(parameter) for parameter in parameters]
        self.places = [(p.data_ptr(), -1 if p.is_inference() else p._version) for p in parameters]
        self.samples = torch.cat([_sample(parameter) for parameter in parameters]).cpu()

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, _Marks)
        same = self.config == other.config and self.places == other.places and len(self.owners) == len(other.owners)
        same = same and all(a() is b() is not None for a, b in zip(self.owners, other.owners, strict=True))
        return same and torch.equal(self.samples, other.samples)


def _sample(parameter: Tensor) -> Tensor:
    """The bits of numbers all over a parameter, int32 [at most ``SAMPLES`` and a few]."""
    flat = parameter.detach().flatten()
    step = len(flat) // SAMPLES | 1  # odd, so that the numbers come from many columns
    return flat[::step].float().view(torch.int32)


def without_head(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a tokenizer without that of its Gaussian head."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(HEAD)}


def tokenizer_hash(config: ModelConfig, state: dict[str, Tensor]) -> str:
    """SHA-256 of a tokenizer without its Gaussian head: its tensors, and what its config says beyond them."""
    unseen = {name: value for name, value in config.to_dict().items() if name in UNSEEN}
    text = f"{json.dumps(unseen, sort_keys=True)}\n{fingerprint(without_head(state))}"
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(state: dict[str, Tensor]) -> str:
    """SHA-256 over names, shapes and fp32 values of a state dict, so that it does not depend on the stored dtype."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name} {list(state[name].shape)}\n".encode())
        digest.update(state[name].detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()
