"""Devices by name, and the end of their memory."""

from __future__ import annotations

import pytest
import torch

from atoken.core.device import enough_memory
from refusals import refused


def test_a_lack_of_memory_is_one_sentence_and_all_else_passes():
    for error in (MemoryError(), torch.OutOfMemoryError("out"), RuntimeError("can't allocate memory: 9 bytes")):
        with refused("a smaller --batch"), enough_memory("a smaller --batch"):
            raise error
    with pytest.raises(RuntimeError, match="shapes"), enough_memory("a smaller --batch"):
        raise RuntimeError("shapes do not fit")
    with pytest.raises(ValueError, match="itself"), enough_memory("a smaller --batch"):
        raise ValueError("itself")
