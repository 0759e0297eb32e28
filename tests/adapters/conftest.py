"""A tiny model with random weights."""

import pytest
import torch

from atoken import PRESETS, AToken


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return AToken(PRESETS["tiny"]).eval()
