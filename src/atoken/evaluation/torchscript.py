"""The community's own feature networks, as the TorchScript files that everyone's FID and FVD are computed with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.network import weight_file
from ..core.device import is_short_of_memory
from ..core.errors import reading
from ..core.hashing import file_hash
from ..core.text import shortened
from ..media.pixels import from_uint8

INCEPTION = (
    "rfid needs the FID Inception: give --inception FILE, the TorchScript inception-2015-12-05.pt of NVIDIA's StyleGAN "
    "(api.ngc.nvidia.com/v2/models/nvidia/research/stylegan3/versions/1/files/metrics), or leave it out with --metrics"
)
I3D = (
    "rfvd needs the I3D: give --i3d FILE, the TorchScript i3d_torchscript.pt of StyleGAN-V "
    "(github.com/universome/fvd-comparison), or leave it out with --metrics"
)
I3D_SIZE = 224
Call = Callable[[torch.jit.ScriptModule, Tensor], "Tensor | None"]


class FeatureScript:
    """A scripted network whose features are read; frames uint8 [F, 3, H, W] -> features fp32 [n, C] or None.

    Raises ``ValueError`` for a file that is no TorchScript.
    """

    def __init__(self, path: Path, name: str, call: Call, device: str) -> None:
        self.name, self._call = name, call
        self.weights_hash = file_hash(path)
        with reading(path, "give the TorchScript file itself, downloaded again"):
            self.module = torch.jit.load(str(path), map_location=device).eval()

    @torch.no_grad()
    def __call__(self, frames: Tensor) -> Tensor | None:
        """Features of the frames. Raises ``ValueError`` where the network does not take them."""
        try:
            features = self._call(self.module, frames)
        except (RuntimeError, torch.jit.Error) as error:
            if is_short_of_memory(error):
                raise
            reason = shortened(str(error).strip().splitlines()[-1])
            raise ValueError(f"{self.name} is not the network that it should be: {reason}") from None
        if features is None:
            return None
        if not isinstance(features, Tensor) or features.ndim != 2:
            raise ValueError(f"{self.name} is not the network that it should be: it gave no vectors")
        return features.float()


def inception(path: Path | None, device: str) -> FeatureScript:
    """The FID Inception: uint8 frames of any size, which it resizes itself, to 2048 features a frame.

    Raises ``ValueError`` or ``FileNotFoundError`` that says where the file is to be had.
    """

    def call(module: torch.jit.ScriptModule, frames: Tensor) -> Tensor:
        features: Tensor = module(frames, return_features=True)
        return features

    return _open(path, "the FID Inception", INCEPTION, call, device)


def i3d(path: Path | None, clip: int, device: str) -> FeatureScript:
    """The I3D: ``clip`` frames, resized bilinearly to 224 x 224, to one vector; fewer frames give none.

    Raises ``ValueError`` or ``FileNotFoundError`` that says where the file is to be had.
    """

    def call(module: torch.jit.ScriptModule, frames: Tensor) -> Tensor | None:
        if len(frames) < clip:
            return None
        pixels = from_uint8(frames)
        pixels = F.interpolate(pixels, (I3D_SIZE, I3D_SIZE), mode="bilinear", align_corners=False)
        video = pixels.transpose(0, 1)[None]  # [1, 3, T, 224, 224]
        features: Tensor = module(video, rescale=False, resize=False, return_features=True)
        return features

    return _open(path, "the I3D of FVD", I3D, call, device)


def _open(path: Path | None, what: str, where: str, call: Call, device: str) -> FeatureScript:
    if path is None:
        raise ValueError(where)
    path = weight_file(path, what.removeprefix("the "), where)
    return FeatureScript(path, f"{what} ({path.name})", call, device)
