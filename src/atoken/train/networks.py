"""The frozen networks behind the terms of a loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..backbones.clip import clip
from ..backbones.lite0 import lite0
from ..backbones.lpips import PerceptualDistance, lpips
from ..backbones.vgg import vgg16
from ..core.regular import read_regular
from ..language.towers import TextTower, text
from ..language.zero_shot import label_embeddings
from ..losses.distillation import AXES
from ..losses.perceptual import LITE_LAYERS, PerceptualTerms, lite_terms
from ..losses.perceptual import TERMS as PERCEPTUAL
from .teachers import ClassTeacher

MINILM, MINILM_WIDTH = "all-minilm", 384


@dataclass(frozen=True)
class PerceptualConfig:
    """The frozen networks behind the terms lpips, gram and clip, for images."""

    network: str = "lite0"
    """"lite0": EfficientNet-Lite0 gives all three, with nothing to download; "vgg16": LPIPS and Gram on VGG16."""
    vgg16: str | None = None
    """torchvision's state-dict file, for network: vgg16."""
    clip: str | None = None
    """CLIP or SigLIP vision tower (folder or hub) of the clip term; without one there is no such term on vgg16."""
    size: int = 224
    """Side that pictures are resized to for these terms."""
    pictures: int | None = None
    """Most pictures of a batch that are looked at; None: all."""

    def __post_init__(self) -> None:
        if self.network not in ("lite0", "vgg16") or (self.network == "vgg16") != (self.vgg16 is not None):
            raise ValueError("train config: perceptual is network: lite0, or network: vgg16 with the path vgg16")
        if self.size < 32 or (self.pictures is not None and self.pictures < 1):
            raise ValueError("train config: perceptual needs a size of 32 or more, and pictures that are positive")


@dataclass(frozen=True)
class TextConfig:
    """The frozen text tower that embeddings are aligned with, and the teacher of image-text distillation."""

    tower: str = "all-minilm"
    """"all-minilm" (from its package), or a SigLIP2 for transformers (folder or hub), which is also the teacher."""
    classes: str | None = None
    """File with the 1,000 ImageNet labels, one a line, for the teacher beside all-minilm: the log-probabilities of an
    EfficientNet-Lite, those that come with the pictures (recipes/nano/teacher.py) or else Lite0's."""
    temperature: float = 2.0
    embed_tokens: int | None = None
    """Tokens of the pictures that the head learns from; larger ones will be scaled down to be embedded."""
    axis: str = "texts"
    """What the softmax of the distillation runs over: "texts", or "both" directions."""

    def __post_init__(self) -> None:
        if self.axis not in AXES or not 0 < self.temperature < math.inf:
            raise ValueError("train config: text needs an axis texts or both, and a positive temperature")


class Networks:
    """The networks that a recipe names, each loaded when a task first asks for it."""

    def __init__(self, perceptual: PerceptualConfig | None, text: TextConfig, device: str) -> None:
        self.perceptual, self.text, self.device = perceptual, text, device

    @cached_property
    def tower(self) -> TextTower:
        """The text tower."""
        return text(self.text.tower, device=self.device)

    @cached_property
    def class_teacher(self) -> ClassTeacher:
        """EfficientNet-Lite0 over the class prompts of all-minilm. Raises ``ValueError`` without ``classes``."""
        if self.text.classes is None:
            raise ValueError(
                "train config: image-text beside all-minilm needs text.classes, a file of ImageNet's labels"
            )
        labels = read_regular(self.text.classes).decode().splitlines()
        return ClassTeacher(lite0(device=self.device), label_embeddings(self.tower, labels))

    @cached_property
    def distance(self) -> PerceptualDistance | None:
        """The distance of pictures that renderings are compared by; None without ``perceptual``."""
        if self.perceptual is None:
            return None
        if self.perceptual.network == "lite0":
            return PerceptualDistance(lite0(LITE_LAYERS, device=self.device))
        assert self.perceptual.vgg16 is not None
        return lpips(vgg16(self.perceptual.vgg16, device=self.device)).to(self.device)


def perceptual_terms(config: PerceptualConfig, device: str, wanted: Sequence[str] = PERCEPTUAL) -> PerceptualTerms:
    """The networks that the recipe names, for the terms ``wanted``."""
    if config.network == "lite0":
        return lite_terms(lite0(LITE_LAYERS, device=device), config.size, wanted)
    assert config.vgg16 is not None
    tower = clip(config.clip, device=device) if config.clip else None
    network = vgg16(config.vgg16, device=device)
    return PerceptualTerms(lpips(network), tower=tower, size=config.size, wanted=wanted).to(device)
