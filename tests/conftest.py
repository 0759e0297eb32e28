"""Shared pieces of the tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from atoken import AToken, ModelConfig
from atoken.weights.load import build

DATA = Path(__file__).parent / "data"


class Golden:
    """The recorded computation of the released code on a tiny model with random weights."""

    def __init__(self, path: Path) -> None:
        with safe_open(path, "pt") as file:
            self.tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self.config = json.loads(file.metadata()["config"])

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.tensors[name]

    def feats(self, case: str) -> torch.Tensor:
        return self[f"{case}/feats"].float()

    def state(self) -> dict[str, torch.Tensor]:
        return {name[8:]: t.float() for name, t in self.tensors.items() if name.startswith("weights/")}

    def model(self, **changes: int) -> AToken:
        c = self.config
        config = ModelConfig(
            "golden",
            width=c["width"],
            heads=c["heads"],
            encoder_depth=c["blocks"],
            decoder_depth=c["blocks"],
            mlp_width=c["mlp"],
            kinds=("continuous", "discrete"),
            **changes,
        )
        return build(config, self.state(), "cpu", torch.float32, "golden")


@pytest.fixture(scope="session")
def golden() -> Golden:
    return Golden(DATA / "atoken_tiny.safetensors")
