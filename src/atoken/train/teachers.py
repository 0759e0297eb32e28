"""Teachers of picture-text similarity, for the distillation of paper Eq. 7."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.clip import VisionTower
from ..backbones.efficientnet import EfficientNetLite
from ..losses.distillation import similarity


class Teacher(Protocol):
    """Scores pictures against the rows of ``texts``; the student's scores are over the same rows."""

    texts: Tensor
    """Unit vectors of the text tower that the student is aligned with, fp32 [T, D]."""

    def scores(self, images: Tensor) -> Tensor:
        """Logits of RGB images [B, 3, H, W] in [-1, 1]: fp32 [B, T]."""
        ...


class TowerTeacher:
    """A frozen SigLIP2: its own cosines with the texts, times its logit scale."""

    def __init__(self, tower: VisionTower, texts: Tensor, log_scale: float) -> None:
        self.tower, self.texts, self.log_scale = tower, texts, log_scale

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """Logits of images [B, 3, H, W] in [-1, 1] over ``texts``: fp32 [B, T]."""
        vectors = F.normalize(self.tower.embedding(images).float(), dim=-1)
        return similarity(vectors, self.texts.to(vectors.device), self.log_scale)


class ClassTeacher:
    """An ImageNet classifier: its log-probabilities over the classes, whose prompts are ``texts`` [1000, D].

    The same equation without an image-text model to download: a softmax over log-probabilities divided by the
    temperature is the classifier's softened prediction. Pictures are resized to the classifier's own square. Raises
    ``ValueError`` unless there is one text a class.
    """

    def __init__(self, network: EfficientNetLite, texts: Tensor) -> None:
        classes = network.get_buffer("fc_bias").shape[0]
        if texts.shape[0] != classes:
            raise ValueError(f"{network.name} tells {classes} classes apart, and there are {len(texts)} texts")
        self.network, self.texts = network, texts

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """Log-probabilities of images [B, 3, H, W] in [-1, 1] over the classes: fp32 [B, 1000]."""
        side = self.network.size
        if images.shape[-2:] != (side, side):
            images = F.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=True)
        return self.network.logits(images).float().log_softmax(-1)
