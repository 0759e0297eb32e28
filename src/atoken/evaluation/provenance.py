"""Which code made a number."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from pathlib import Path
from typing import Any

import PIL
import torch

from .. import __version__

ROOT = Path(__file__).parents[1]
ROOMS = ("evaluation", "perceptual", "media", "model", "codec", "render", "understanding", "weights")
"""What the numbers depend on besides the weights."""


@cache
def code_version() -> dict[str, str]:
    """The release, and the SHA-256 of the source files that the numbers depend on."""
    digest = hashlib.sha256()
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return {"atoken": __version__, "sha256": digest.hexdigest()}


def environment(device: str) -> dict[str, Any]:
    """Versions and machine, for the record; they do not enter the fingerprint of a run."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pillow": PIL.__version__,
        "device": f"{device} ({name})",
        "threads": torch.get_num_threads(),
    }
