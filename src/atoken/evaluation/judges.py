"""What looks at originals and results: each judge computes its features once and gives one or more metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..backbones.alex import alexnet
from ..backbones.efficientnet import EfficientNetLite
from ..backbones.lite0 import lite0
from ..backbones.lpips import PerceptualDistance, lpips
from ..backbones.vgg import vgg16
from ..media.pixels import from_uint8
from ..metrics.psnr import HIGHEST, psnr_batch
from ..metrics.ssim import ssim
from ..tokenizer.identity import fingerprint
from .torchscript import FeatureScript, i3d, inception


class Judge(ABC):
    """Looks at frames uint8 [F, 3, H, W] and compares what it saw."""

    frame_metrics: tuple[str, ...] = ()
    """Names of the metrics that ``compare`` gives for each frame."""
    frechet_metric: str | None = None
    """Name of the Fréchet distance of ``vectors``."""
    least = 1
    """Pixels that a side must have."""
    whole_clips = False
    """Whether it looks at the frames of a clip together, and not at each by itself."""

    @abstractmethod
    def look(self, frames: Tensor) -> Any:
        """Whatever ``compare`` and ``vectors`` need of the frames."""

    def compare(self, originals: Any, results: Any) -> dict[str, Tensor]:
        """Each of ``frame_metrics`` for each frame: [F]."""
        return {}

    def vectors(self, seen: Any) -> Tensor | None:
        """Feature vectors [n, C] whose Fréchet distance is ``frechet_metric``; None where the frames make none."""
        return None

    def network(self, metric: str) -> dict[str, Any] | None:
        """The network behind a metric and its weights, as JSON-ready values; None for formulas."""
        return None


class PixelJudge(Judge):
    """PSNR and SSIM."""

    def __init__(self, metrics: Collection[str]) -> None:
        self.frame_metrics = tuple(name for name in ("psnr", "ssim") if name in metrics)

    def look(self, frames: Tensor) -> Tensor:
        """The pixels themselves."""
        return frames

    def compare(self, originals: Tensor, results: Tensor) -> dict[str, Tensor]:
        """PSNR in dB, at most ``HIGHEST``, so that one equal frame does not make every mean infinite; SSIM."""
        values = {}
        if "psnr" in self.frame_metrics:
            values["psnr"] = psnr_batch(results, originals).clamp_max(HIGHEST)
        if "ssim" in self.frame_metrics:
            values["ssim"] = ssim(results, originals)
        return values


class Lite0Judge(Judge):
    """Perceptual distance over all layers of EfficientNet-Lite0, and the Fréchet distance of its pooled head."""

    def __init__(self, network: EfficientNetLite, metrics: Collection[str]) -> None:
        self.net, self.distance = network, PerceptualDistance(network)
        self.frame_metrics = ("lite0-distance",) if "lite0-distance" in metrics else ()
        self.frechet_metric = "lite0-frechet" if "lite0-frechet" in metrics else None
        self.layers = network.layers if self.frame_metrics else network.layers[-1:]

    def look(self, frames: Tensor) -> list[Tensor]:
        """Feature maps."""
        return self.net.features(from_uint8(frames), self.layers)

    def compare(self, originals: list[Tensor], results: list[Tensor]) -> dict[str, Tensor]:
        """The perceptual distance."""
        return {name: self.distance.compare(results, originals) for name in self.frame_metrics}

    def vectors(self, seen: list[Tensor]) -> Tensor | None:
        """The head, averaged over the picture: [F, 1280]."""
        return seen[-1].float().mean((-2, -1))

    def network(self, metric: str) -> dict[str, Any]:
        """Lite0 and what is read of it."""
        what = "mean over layers of 2 - 2 cos" if metric == "lite0-distance" else "head, averaged over the picture"
        return {"name": self.net.name, "sha256": self.net.weights_hash, "features": what}


class LpipsJudge(Judge):
    """LPIPS with the published heads."""

    frame_metrics = ("lpips",)

    def __init__(self, distance: PerceptualDistance) -> None:
        self.distance = distance
        self.least = distance.network.least

    def look(self, frames: Tensor) -> list[Tensor]:
        """Feature maps."""
        return self.distance.network.features(from_uint8(frames))

    def compare(self, originals: list[Tensor], results: list[Tensor]) -> dict[str, Tensor]:
        """LPIPS."""
        return {"lpips": self.distance.compare(results, originals)}

    def network(self, metric: str) -> dict[str, Any]:
        """The trunk and the heads."""
        net, heads = self.distance.network, fingerprint(self.distance.heads.state_dict())
        return {"name": f"lpips 0.1 on {net.name}", "sha256": net.weights_hash, "heads": heads}


class ScriptJudge(Judge):
    """The Fréchet distance of a TorchScript file's features: rFID or rFVD."""

    def __init__(self, metric: str, script: FeatureScript) -> None:
        self.frechet_metric, self.script = metric, script
        self.whole_clips = metric == "rfvd"

    def look(self, frames: Tensor) -> Tensor | None:
        """The features [n, C], None where there are too few frames."""
        return self.script(frames)

    def vectors(self, seen: Tensor | None) -> Tensor | None:
        """The same."""
        return seen

    def network(self, metric: str) -> dict[str, Any]:
        """The file."""
        return {"name": self.script.name, "sha256": self.script.weights_hash}


@dataclass(frozen=True)
class NetworkFiles:
    """Weight files that the user points at."""

    vgg16: Path | None = None
    alexnet: Path | None = None
    inception: Path | None = None
    i3d: Path | None = None

    @property
    def given(self) -> dict[str, str]:
        """The metric of each file that is there, by the name of its option."""
        metrics = {"vgg16": "lpips", "alexnet": "lpips", "inception": "rfid", "i3d": "rfvd"}
        return {f"--{name}": metric for name, metric in metrics.items() if getattr(self, name)}


def build_judges(metrics: Collection[str], files: NetworkFiles, clip: int, device: str) -> list[Judge]:
    """The judges that give ``metrics``.

    Raises ``ValueError`` that says where a missing network is to be had, or which file no metric reads.
    """
    for option, metric in files.given.items():
        if metric not in metrics:
            raise ValueError(f"{option} is for {metric}, which is not measured: name it in --metrics")
    if files.vgg16 and files.alexnet:
        raise ValueError("--vgg16 and --alexnet are two networks for one lpips: give one of them")
    judges: list[Judge] = []
    if {"psnr", "ssim"} & set(metrics):
        judges.append(PixelJudge(metrics))
    if "lpips" in metrics:
        if files.vgg16:
            trunk = vgg16(files.vgg16, device=device)
        elif files.alexnet:
            trunk = alexnet(files.alexnet, device=device)
        else:
            raise ValueError(
                "lpips needs a network: give --vgg16 FILE (vgg16-397923af.pth) or --alexnet FILE "
                "(alexnet-owt-7be5be79.pth) from download.pytorch.org/models, or leave it out with --metrics"
            )
        judges.append(LpipsJudge(lpips(trunk).to(device)))
    if {"lite0-distance", "lite0-frechet"} & set(metrics):
        judges.append(Lite0Judge(lite0(device=device), metrics))
    if "rfid" in metrics:
        judges.append(ScriptJudge("rfid", inception(files.inception, device)))
    if "rfvd" in metrics:
        judges.append(ScriptJudge("rfvd", i3d(files.i3d, clip, device)))
    return judges


def to_frames(clip: Any, device: str) -> Tensor:
    """uint8 array [F, H, W, 3] -> tensor [F, 3, H, W] on ``device``."""
    return torch.from_numpy(clip).to(device).permute(0, 3, 1, 2).contiguous()
