"""What is measured on which pixels: protocols and metrics as data, so that every number can carry them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..media.views.views import DISTANCE, FOV, SIZE
from ..metrics.ms_ssim import SIGMA, WINDOW
from ..metrics.psnr import HIGHEST, centre_crop
from .assets import HELD_OUT_VIEWS, OFFSET


@dataclass(frozen=True)
class Metric:
    """What a number is."""

    name: str
    label: str
    unit: str
    higher_is_better: bool
    of_set: bool = False
    """Whether it belongs to the whole set, as a Fréchet distance does, and not to each picture."""
    formula: Mapping[str, Any] = field(default_factory=dict)
    """What a formula was computed with, JSON-ready."""


METRICS = {
    metric.name: metric
    for metric in (
        Metric("psnr", "PSNR", "dB", higher_is_better=True, formula={"peak": 255, "highest": HIGHEST}),
        Metric("ssim", "SSIM", "", higher_is_better=True, formula={"window": WINDOW, "sigma": SIGMA}),
        Metric("lpips", "LPIPS", "", higher_is_better=False),
        Metric("lite0-distance", "Lite0 perceptual distance", "", higher_is_better=False),
        Metric("rfid", "rFID", "", higher_is_better=False, of_set=True),
        Metric("rfvd", "rFVD", "", higher_is_better=False, of_set=True),
        Metric("lite0-frechet", "Lite0 Fréchet distance", "", higher_is_better=False, of_set=True),
    )
}


@dataclass(frozen=True)
class Protocol:
    """The pixels that are compared: originals after resizing and cropping against results, both uint8 sRGB."""

    name: str
    modality: str
    """"image", "video" or "3d"."""
    shorter_side: int | None
    """Pixels that the shorter side is resized to; None keeps the size."""
    crop: int | None
    """Side of the centre crop; None keeps everything."""
    resize_filter: str = "lanczos"
    clip: int = 16
    """Video: frames of one feature vector of rFVD; consecutive clips, a shorter rest is left out."""

    @property
    def what(self) -> str:
        """Its items, in a word."""
        return {"image": "pictures", "video": "videos", "3d": "3D assets"}[self.modality]

    @property
    def unit(self) -> str:
        """What the size of tokens is counted over."""
        return "voxel" if self.modality == "3d" else "pixel"

    def apply(self, frames: np.ndarray) -> np.ndarray:
        """Frames uint8 [F, H, W, 3] in the protocol's geometry. Raises ``ValueError`` for what is too small."""
        if self.crop:
            return np.stack([centre_crop(frame, self.crop) for frame in frames])
        height, width = frames.shape[1:3]
        if min(height, width) < WINDOW:
            raise ValueError(f"{width} x {height} is too small to measure: {WINDOW} pixels a side are the least")
        return frames

    def describe(self) -> dict[str, Any]:
        """The pixels as JSON-ready values."""
        size = [self.crop, self.crop] if self.crop else "native"
        resize = {"shorter_side": self.shorter_side, "filter": self.resize_filter} if self.shorter_side else None
        crop = {"where": "centre", "size": size} if self.crop else None
        pixels = {"dtype": "uint8", "colour": "sRGB", "range": [0, 255]}
        more: dict[str, Any] = {"clip": self.clip} if self.modality == "video" else {}
        if self.modality == "3d":
            size = [SIZE, SIZE]
            sphere = {"count": HELD_OUT_VIEWS, "offset": OFFSET, "distance": DISTANCE, "fov": FOV}
            more = {"views": sphere, "background": [0, 0, 0]}
        return {"name": self.name, "resize": resize, "crop": crop, "size": size, **pixels, **more}


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("paper-image", "image", 256, 256),
        Protocol("native", "image", None, None),
        Protocol("paper-video", "video", None, None),
        Protocol("video-256", "video", 256, 256),
        Protocol("paper-3d", "3d", None, None),
    )
}
"""``paper-image``, ``paper-video`` and ``paper-3d`` are those of the paper's Tables 4, 6 and 8."""


def find_protocol(name: str) -> Protocol:
    """The protocol of that name. Raises ``ValueError`` that lists them."""
    if name not in PROTOCOLS:
        raise ValueError(f"no protocol {name!r}: there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def default_metrics(protocol: Protocol, count: int, with_lite0: bool) -> tuple[str, ...]:
    """What is measured of ``count`` items where nothing is asked for: all that needs no download.

    ``with_lite0`` says whether the package of EfficientNet-Lite0 is installed.
    """
    chosen = ["psnr", "ssim"]
    if with_lite0:
        chosen.append("lite0-distance")
        if protocol.modality == "video" or (protocol.modality == "image" and count > 1):
            chosen.append("lite0-frechet")
    return tuple(chosen)


def find_metrics(names: str, protocol: Protocol) -> tuple[str, ...]:
    """Names out of a comma-separated list. Raises ``ValueError`` for one that is unknown or does not fit."""
    chosen = tuple(dict.fromkeys(name.strip() for name in names.split(",")))
    for name in chosen:
        if name not in METRICS:
            raise ValueError(f"no metric {name!r}: there are {', '.join(METRICS)}")
    if "rfvd" in chosen and protocol.modality != "video":
        raise ValueError(f"rfvd is for videos, and the protocol {protocol.name!r} is for {protocol.what}")
    return chosen


def check_count(metrics: Sequence[str], protocol: Protocol, count: int) -> None:
    """Raise ``ValueError`` where there are too few pictures for a metric of sets; how many frames are in videos, or
    views in assets, nobody knows before they are read."""
    of_sets = [name for name in metrics if METRICS[name].of_set]
    if of_sets and protocol.modality == "image" and count < 2:
        raise ValueError(f"{of_sets[0]} compares sets, and one picture is none: leave it out with --metrics")
